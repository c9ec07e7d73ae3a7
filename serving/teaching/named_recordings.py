"""The recording that a table means by a path of another machine, by a name alone, or by its own name."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePath, PureWindowsPath

from serving.audio.file_names import walk_recordings
from serving.errors import DataError

# What programs put between a recording's name and the table's suffix: Raven ".Table.1.selections", BirdNET
# ".BirdNET.selection.table", `serving.label` ".selections" or ".labels".
_ADDED = re.compile(r"(\.birdnet)?(\.table\.\d+)?(\.selections?(\.table)?|\.labels|\.results)?\.[^.]+$", re.IGNORECASE)


def name_of_its_recording(table: PurePath) -> PurePath:
    """A table without what follows its recording's name: night1 for night1.Table.1.selections.txt."""
    return table.with_name(_ADDED.sub("", table.name) or table.name)


class NamedRecordings:
    """The recordings in a folder, at any depth, by their names. Unicode's form does not matter, nor does letter case,
    unless names differ in it alone.

    chosen  whether the user named the folder; then it comes before the paths of tables
    """

    def __init__(self, folder: Path, chosen: bool):
        self.folder = folder
        self.chosen = chosen

    @cached_property
    def _by_name(self) -> dict[str, list[PurePath]]:
        """Relative paths by name, with and without suffix."""
        named = defaultdict(list)
        for path in map(PurePath, walk_recordings(self.folder)):
            for name in {_plain(path.name), _plain(path.stem)}:
                named[name].append(path)
        return named

    def has(self, path: str) -> bool:
        """Whether the folder has a recording with the name, also in another place."""
        return bool(self._named(PureWindowsPath(path)))

    def at(self, path: str, where: str) -> Path:
        """The recording at a path that is relative to the folder, with slashes of either kind; others as `find`."""
        given = PureWindowsPath(path)
        if Path(path).is_absolute() or given.is_absolute():
            return self.find(path, where)
        if (self.folder / path).is_file():
            return self.folder / path
        fit = [each for each in self._named(given) if _plain_parts(each) == _plain_parts(given)]
        return self._only(fit, given, where, "give them other names") if fit else self.folder / path

    def find(self, path: str, where: str) -> Path:
        """The recording that a path of another machine, or a name alone, means.

        path     its last part is the name. If it has folders, the recording's path in the folder must be its end.
        where    what says so, for messages
        returns  a path that is not there, if no recording fits
        errors   DataError: more than one recording has the name
        """
        own, given = Path(path), PureWindowsPath(path)
        is_there = own.is_absolute() and own.is_file()
        if is_there and not self.chosen:
            return own
        fit = self._named(given)
        if len(given.parts) > 1:
            parts = _plain_parts(given)
            ends = [each for each in fit if _plain_parts(each) == parts[-len(each.parts) :]]
            fit = [each for each in ends if len(each.parts) == max(len(other.parts) for other in ends)]
        if not fit:
            return own if is_there else self.folder / path
        return self._only(fit, given, where, "give a table with their paths, or the folder of one with --recordings")

    def like(self, place: PurePath, where: str) -> Path:
        """The recording at a place in the folder, with or without its suffix; a name alone may be in any folder.

        Returns and errors as `find`.
        """
        named = self._by_name.get(_plain(place.name), [])
        fit = [each for each in named if _plain(str(each.parent)) == _plain(str(place.parent))]
        if len(place.parts) == 1:
            fit = fit or named
        if not fit:
            return self.folder / place
        way_out = f"name the table {fit[0].name}.txt, or give the folder of one with --recordings"
        return self._only(fit, place, where, way_out)

    def _named(self, path: PurePath) -> list[PurePath]:
        """The recordings with the whole name of a path."""
        name = _plain(path.name)
        return [each for each in self._by_name.get(name, []) if _plain(each.name) == name]

    def _only(self, fit: Sequence[PurePath], given: PurePath, where: str, way_out: str) -> Path:
        """The one recording that fits a given path; of several, the one that is spelt so. DataError: there are more."""
        fit = _spelt_so(fit, given)
        if len(fit) > 1:
            raise DataError(
                f"{where}: {len(fit)} recordings in {self.folder} have this name, such as {fit[0]} and {fit[1]}; "
                f"{way_out}"
            )
        return self.folder / fit[0]


def _spelt_so(fit: Sequence[PurePath], given: PurePath) -> Sequence[PurePath]:
    """The paths that are as a given one in letter case too, with or without their suffix; all if none is."""
    wanted = _composed(given)
    exact = [
        each
        for each in fit
        if any(_ends_alike(parts, wanted) for parts in (_composed(each), _composed(each.with_suffix(""))))
    ]
    return exact or fit


def _composed(path: PurePath) -> list[str]:
    return [unicodedata.normalize("NFC", part) for part in path.parts]


def _ends_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    n = min(len(one), len(other))
    return one[-n:] == other[-n:]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _plain_parts(path: PurePath) -> list[str]:
    return [_plain(part) for part in path.parts]
