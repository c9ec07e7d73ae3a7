"""Split a data set: its classes into seen and unseen ones, and the clips of seen classes into train, validation, test.

A class split's name lists the partitions that are not trained on: fold4 trains on the 40 ESC-50 classes outside the
partition 4, fold04 on the 30 outside the partitions 0 and 4. In foldX4, X is the unseen partition for validation and 4
the one for the final test. Source: the study's code (github.com/ysims/ZeroDiffusion).

Partitions are defined by the data sets' own class numbers, so a part of a data set is split like the whole.
"""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from serving.errors import DataError, UsageError
from serving.zeroshot.label_text import join_labels, normalise_label
from training.data.clips import ClipTable, LabelledClip
from training.data.fingerprint import fingerprint
from training.data.known_classes import CLASS_NAMES

# ESC-50 targets, by partition.
ESC50_FOLDS = (
    (27, 46, 38, 3, 29, 48, 40, 31, 2, 35),
    (22, 13, 39, 49, 32, 26, 42, 21, 19, 36),
    (23, 41, 14, 24, 33, 30, 4, 17, 10, 45),
    (47, 34, 20, 44, 25, 6, 7, 1, 28, 18),
    (43, 5, 37, 12, 9, 0, 11, 8, 15, 16),
)
ESC50_CATEGORIES = tuple(tuple(range(10 * i, 10 * i + 10)) for i in range(5))
# FSC22 class ids. All other classes are seen.
FSC22_VALIDATION = (7, 9, 10, 13, 14, 19, 23)
FSC22_TEST = (6, 8, 16, 18, 22, 24, 27)

VALIDATION_SHARE = 0.2  # of the clips that are not held out for the test
SHARES = {parts: 1 / parts for parts in range(2, 51)}  # one of so many parts is kept for validation


@dataclass(frozen=True)
class ClassSplit:
    """The names of the seen classes, and of the classes that are kept unseen for validation and for the test.

    missing  classes of the data set that its folder does not hold
    """

    name: str
    seen: tuple[str, ...]
    unseen_validation: tuple[str, ...] = ()
    unseen_test: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def warning(self) -> str | None:
        """One line that names the missing classes; None if no class is missing."""
        if not self.missing:
            return None
        return (
            f"warning: split {self.name}: the data set's folder lacks {len(self.missing)} of its classes "
            f"({', '.join(self.missing)}): scores cannot be compared with those of the whole data set"
        )


@dataclass(frozen=True)
class ClipSplit:
    """The clips of the seen classes by their use. test is empty if no recording fold is held out."""

    train: tuple[LabelledClip, ...]
    validation: tuple[LabelledClip, ...]
    test: tuple[LabelledClip, ...]

    @property
    def held_out(self) -> tuple[LabelledClip, ...]:
        """The test clips; without test clips, the validation clips."""
        return self.test or self.validation

    @property
    def digest(self) -> str:
        """A hash of which clips are in which part, by file name, class and source recording."""
        parts = [
            [(clip.path.name, clip.label, clip.source) for clip in part]
            for part in (self.train, self.validation, self.test)
        ]
        return fingerprint(parts)


def split_names(dataset: str) -> list[str]:
    """The names of a data set's class splits."""
    named = {
        "ESC-50": [f"cat{i}" for i in range(5)] + [f"fold{i}" for i in range(5)] + [f"fold{i}4" for i in range(4)],
        "FSC22": ["train", "val", "test"],
    }
    return ["all", "random", *named.get(dataset, [])]


def split_classes(table: ClipTable, name: str, seed: int = 0, unseen: tuple[str, ...] = ()) -> ClassSplit:
    """The seen and unseen classes of a split.

    name     one of `split_names`
    unseen   names of classes to keep unseen; only with the split "all", whose name then becomes "unseen"
    seed     for "random", which keeps three classes in ten unseen
    errors   UsageError: the data set has no such split; DataError: fewer than two seen classes are left, or the table
             has none of the split's unseen classes
    """
    known = split_names(table.dataset)
    if name not in known:
        raise UsageError(f"split: got {name}; {table.dataset} has {', '.join(known)}")
    if unseen:
        split = _leave_out(table, name, unseen)
    elif name == "random":
        order = np.random.default_rng(seed).permutation(len(table.classes))
        drawn = tuple(table.classes[int(i)] for i in order[: round(0.3 * len(order))])
        split = _without(table, "random", (), drawn)
    elif name == "all":
        split = ClassSplit("all", table.classes)
    else:
        split = _named(table, name)
    if len(split.seen) < 2:
        what = f"unseen: {', '.join(unseen)}" if unseen else f"split {name}"
        raise DataError(f"{what}: leaves {len(split.seen)} of the classes to train on; training needs two or more")
    return split


def _without(table: ClipTable, name: str, validation: tuple[str, ...], test: tuple[str, ...]) -> ClassSplit:
    seen = tuple(label for label in table.classes if label not in {*validation, *test})
    return ClassSplit(name, seen, validation, test)


def _leave_out(table: ClipTable, name: str, unseen: tuple[str, ...]) -> ClassSplit:
    if name != "all":
        raise UsageError(f"--unseen and --split {name} both choose the unseen classes; give one of them")
    classes = {normalise_label(label): label for label in table.classes}
    unknown = sorted(label for label in unseen if normalise_label(label) not in classes)
    if unknown:
        raise UsageError(f"unseen: got {join_labels(unknown)}; {table.dataset} has {join_labels(table.classes)}")
    named = tuple(classes[normalise_label(label)] for label in unseen)
    if len(set(named)) < len(named):
        raise UsageError(f"unseen: got {join_labels(unseen)}; name each class once")
    return _without(table, "unseen", (), named)


def _named(table: ClipTable, name: str) -> ClassSplit:
    """One of the study's splits, reduced to the classes that the table has."""
    names = CLASS_NAMES[table.dataset]
    present = dict(zip(table.numbers, table.classes, strict=True))
    validation, test = (
        tuple(present[number] for number in numbers if number in present)
        for numbers in _unseen_numbers(table.dataset, name)
    )
    if not validation and not test:
        raise DataError(
            f"split {name}: the folder has none of the classes that it keeps unseen, and {len(present)} of "
            f"{table.dataset}'s {len(names)} in all; give the whole data set, or another --split"
        )
    missing = tuple(label for number, label in names.items() if number not in present)
    return replace(_without(table, name, validation, test), missing=missing)


def _unseen_numbers(dataset: str, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of the classes that a split keeps unseen for validation and for the test."""
    if dataset == "FSC22":
        # "train", "val" and "test" have the same seen classes; they differ in the classes that are scored.
        return FSC22_VALIDATION, FSC22_TEST
    if name.startswith("cat"):
        return (), ESC50_CATEGORIES[int(name[3:])]
    return ESC50_FOLDS[int(name[4])] if len(name) == 6 else (), ESC50_FOLDS[int(name[-1])]


def split_clips(
    table: ClipTable,
    classes: ClassSplit,
    test_fold: int | None,
    seed: int,
    validation_share: float = VALIDATION_SHARE,
) -> ClipSplit:
    """Split the clips of the seen classes. All clips of a source recording go to the same part.

    test_fold         the data set's recording fold that is held out as the test set; None: no test set
    validation_share  share of the other clips for validation, 0 to 0.5: the nearest one of SHARES; 0: none
    errors            UsageError: no clip of a seen class is in that fold; DataError: too few source recordings
    """
    seen = {table.classes.index(name) for name in classes.seen}
    clips = [clip for clip in table.clips if clip.label in seen]
    if test_fold is not None and test_fold not in (folds := table.folds_of(classes.seen)):
        have = ", ".join(map(str, folds)) or "none"
        raise UsageError(f"test fold: got {test_fold}; the seen classes of {table.dataset} have {have}")
    test = tuple(clip for clip in clips if test_fold is not None and clip.fold == test_fold)
    # A source recording that is scored is not trained on, even if it has clips in another fold or of another class.
    scored = {clip.source for clip in (*test, *(clip for clip in table.clips if clip.label not in seen))}
    rest = [clip for clip in clips if clip.source not in scored]
    labels = np.array([clip.label for clip in rest])
    train, validation = np.arange(len(rest)), np.empty(0, np.int64)
    if validation_share:
        sources = np.array([clip.source for clip in rest])
        n_sources = {table.classes[i]: len(set(sources[labels == i])) for i in sorted(seen)}
        few = [name for name, count in n_sources.items() if count < 2]
        if few:
            counted = " (the files of one subfolder are one)" if table.dataset == "folder" else ""
            raise DataError(
                f"{table.dataset}: {', '.join(few)} has fewer than two source recordings{counted} to train and "
                "validate on; add recordings or leave the class out"
            )
        parts = min(SHARES, key=lambda parts: abs(SHARES[parts] - validation_share))
        folds = StratifiedGroupKFold(min(parts, max(n_sources.values())), shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")  # it may have no validation clip
            train, validation = next(folds.split(labels, labels, sources))
    missing = [table.classes[i] for i in sorted(seen) if i not in labels[train]]
    if missing:
        raise DataError(f"{table.dataset}: no clip of {', '.join(missing)} is left for training; add recordings")
    return ClipSplit(tuple(rest[i] for i in train), tuple(rest[i] for i in validation), test)
