"""The recording that a table means, where it says a name, or has the name itself, instead of a path in the folder."""

import re
from collections import defaultdict
from pathlib import Path, PurePath, PureWindowsPath

from serving.audio.file_names import walk_recordings
from serving.errors import DataError

# What programs put between a recording's name and the table's suffix: Raven ".Table.1.selections", `serving.label`
# ".selections" or ".labels".
_ADDED = re.compile(r"(\.table\.\d+)?(\.selections|\.labels)?\.[^.]+$", re.IGNORECASE)


def name_of_its_recording(table: Path) -> str:
    """The path of a table without what follows its recording's name: night1 for night1.Table.1.selections.txt."""
    return str(table.with_name(_ADDED.sub("", table.name) or table.name))


class NamedRecordings:
    """The recordings in a folder, at any depth, by their names."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._by_name: dict[str, list[PurePath]] | None = None

    def find(self, path: str, where: str) -> Path:
        """The recording that a path of another machine, or of another folder, means.

        path     of a file that is there; otherwise its name, with or without suffix, decides, and among recordings of
                 one name the folders before it
        where    what says so, for messages
        returns  a path in the folder that is not there, if no recording has the name
        errors   DataError: more than one recording has the name, and their folders do not decide
        """
        if Path(path).is_absolute() and Path(path).is_file():
            return Path(path)
        parts = PureWindowsPath(path).parts  # either slash separates
        named = self._named(parts[-1])
        shared = [_shared(each.parent.parts, parts[:-1]) for each in named]
        best = [each for each, count in zip(named, shared, strict=True) if count == max(shared)]
        if len(best) > 1:
            raise DataError(
                f"{where}: {len(best)} recordings of {self.folder} are named {parts[-1]}, such as {best[0]} and "
                f"{best[1]}; give the folder of one with --recordings, or a table with their paths"
            )
        return self.folder / (best[0] if best else parts[-1])

    def _named(self, name: str) -> list[PurePath]:
        if self._by_name is None:
            self._by_name = defaultdict(list)
            for path in map(PurePath, walk_recordings(self.folder)):
                for key in {path.name, path.stem}:
                    self._by_name[key].append(path)
        return self._by_name.get(name, [])


def _shared(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How many last parts two paths share."""
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count
