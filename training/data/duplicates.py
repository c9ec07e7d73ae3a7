"""Files that occur twice in a data set: a leak if one copy is trained on and the other one is scored, and a
contradiction if the copies have different labels."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from serving.errors import DataError
from training.data.clips import LabelledClip
from training.data.content_hash import content_hash


@dataclass(frozen=True)
class SharedFiles:
    """File contents that occur in two parts of a data set: one pair of clips for each content."""

    parts: tuple[str, str]
    pairs: tuple[tuple[LabelledClip, LabelledClip], ...]

    def line(self) -> str:
        """One warning: the parts, the number of shared contents, and the files of the first pair."""
        first, second = self.parts
        count = f"{len(self.pairs)} recording{'s' if len(self.pairs) > 1 else ''}"
        return (
            f"warning: {first} and {second} share {count}, byte for byte ({_named(self.pairs)}); "
            f"remove one of each, otherwise scores on {second} are too high"
        )


@dataclass(frozen=True)
class TwoLabels:
    """File contents that occur with two labels: one pair of clips for each content."""

    labels: tuple[str, str]
    pairs: tuple[tuple[LabelledClip, LabelledClip], ...]

    def line(self) -> str:
        """One warning: the labels, the number of contents that have both, and the files of the first pair."""
        first, second = self.labels
        count = f"{len(self.pairs)} recordings have" if len(self.pairs) > 1 else "1 recording has"
        return (
            f"warning: {count} two labels, {first} and {second}: the files are equal, byte for byte "
            f"({_named(self.pairs)}); a network cannot tell these labels apart: remove the wrong copies, or make the "
            "two labels one"
        )


def _named(pairs: Sequence[tuple[LabelledClip, LabelledClip]]) -> str:
    """The files of the first pair, and how many pairs there are besides."""
    one, other = pairs[0]
    return f"{one.path} = {other.path}" + (f", and {len(pairs) - 1} more" if len(pairs) > 1 else "")


def duplicates(clips: Sequence[LabelledClip]) -> list[tuple[LabelledClip, ...]]:
    """Groups of two or more clips whose files are equal byte for byte, in the order of the clips.

    Only files of equal size are read, and none again that this process has hashed before.
    errors   DataError naming a file that cannot be read
    """
    by_size: defaultdict[int, list[LabelledClip]] = defaultdict(list)
    by_content: defaultdict[str, list[LabelledClip]] = defaultdict(list)
    try:
        for clip in clips:
            by_size[clip.path.stat().st_size].append(clip)
        for clip in clips:
            if len(by_size[clip.path.stat().st_size]) > 1:
                by_content[content_hash(clip.path)].append(clip)
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); correct its permissions") from error
    return [tuple(group) for group in by_content.values() if len(group) > 1]


def shared_files(
    groups: Iterable[Sequence[LabelledClip]], parts: Mapping[str, Sequence[LabelledClip]]
) -> list[SharedFiles]:
    """The contents that two parts share under one label, for each pair of parts that share at least one.

    groups   of `duplicates`; clips of no part do not count
    parts    clips by the part's name, in the order train, validation, test
    """
    part_of: dict[Path, str] = {clip.path: name for name, clips in parts.items() for clip in clips}
    found: defaultdict[tuple[str, str], list[tuple[LabelledClip, LabelledClip]]] = defaultdict(list)
    for group in groups:
        for label in dict.fromkeys(clip.label for clip in group):
            own = [clip for clip in reversed(group) if clip.label == label and clip.path in part_of]
            first_of = {part_of[clip.path]: clip for clip in own}
            for pair in combinations([name for name in parts if name in first_of], 2):
                found[pair].append((first_of[pair[0]], first_of[pair[1]]))
    return [SharedFiles(pair, tuple(found[pair])) for pair in combinations(parts, 2) if pair in found]


def with_two_labels(groups: Iterable[Sequence[LabelledClip]], classes: Sequence[str]) -> list[TwoLabels]:
    """The contents that occur with two labels, for each pair of labels that share at least one.

    groups   of `duplicates`
    classes  names of the labels
    """
    found: defaultdict[tuple[int, int], list[tuple[LabelledClip, LabelledClip]]] = defaultdict(list)
    for group in groups:
        first_of = {clip.label: clip for clip in reversed(group)}
        for first, second in combinations(sorted(first_of), 2):
            found[first, second].append((first_of[first], first_of[second]))
    return [TwoLabels((classes[one], classes[other]), tuple(found[one, other])) for one, other in sorted(found)]
