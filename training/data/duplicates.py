"""Files that occur twice in a data set: a leak if one copy is trained on and the other one is scored."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from serving.errors import DataError
from serving.file_record import record_of
from training.data.clips import LabelledClip


@dataclass(frozen=True)
class SharedFiles:
    """File contents that occur in two parts of a data set: one pair of clips for each content."""

    parts: tuple[str, str]
    pairs: tuple[tuple[LabelledClip, LabelledClip], ...]

    def line(self) -> str:
        """One warning: the parts, the number of shared contents, and the files of the first pair."""
        first, second = self.parts
        one, other = self.pairs[0]
        count = f"{len(self.pairs)} recording{'s' if len(self.pairs) > 1 else ''}"
        more = f", and {len(self.pairs) - 1} more" if len(self.pairs) > 1 else ""
        return (
            f"warning: {first} and {second} share {count}, byte for byte ({one.path} = {other.path}{more}); "
            f"remove one of each, otherwise scores on {second} are too high"
        )


def duplicates(clips: Sequence[LabelledClip]) -> list[tuple[LabelledClip, ...]]:
    """Groups of two or more clips whose files are equal byte for byte, in the order of the clips.

    Only files of equal size are read.
    errors   DataError naming a file that cannot be read
    """
    by_size: defaultdict[int, list[LabelledClip]] = defaultdict(list)
    by_content: defaultdict[str, list[LabelledClip]] = defaultdict(list)
    try:
        for clip in clips:
            by_size[clip.path.stat().st_size].append(clip)
        for clip in clips:
            if len(by_size[clip.path.stat().st_size]) > 1:
                by_content[record_of(clip.path).sha256].append(clip)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); correct its permissions") from error
    return [tuple(group) for group in by_content.values() if len(group) > 1]


def shared_files(parts: Mapping[str, Sequence[LabelledClip]]) -> list[SharedFiles]:
    """The contents that two parts share, for each pair of parts that share at least one.

    parts    clips by the part's name, in the order train, validation, test
    errors   as `duplicates`
    """
    part_of: dict[Path, str] = {clip.path: name for name, clips in parts.items() for clip in clips}
    found: defaultdict[tuple[str, str], list[tuple[LabelledClip, LabelledClip]]] = defaultdict(list)
    for group in duplicates([clip for clips in parts.values() for clip in clips]):
        first_of = {part_of[clip.path]: clip for clip in reversed(group)}
        for pair in combinations([name for name in parts if name in first_of], 2):
            found[pair].append((first_of[pair[0]], first_of[pair[1]]))
    return [SharedFiles(pair, tuple(found[pair])) for pair in combinations(parts, 2) if pair in found]
