"""Which classes a model may learn from, and which clips test and validate it.

A class split's name lists the partitions that are not trained on: fold4 trains on the 40 ESC-50 classes outside
fold4's ten, fold04 on the 30 outside fold0's and fold4's. In foldX4, X is the unseen partition for validation
and 4 the one for the final test. Source: the study's code (github.com/ysims/ZeroDiffusion).

Partitions are made of the data sets' own class numbers, so that a part of a data set is split as the whole would be.
"""

from dataclasses import dataclass, replace

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from serving.errors import DataError, UsageError
from serving.label_text import join_labels, normalise_label
from training.data.clips import Clip, ClipTable
from training.data.names import CLASS_NAMES

# ESC-50 targets, by partition.
ESC50_FOLDS = (
    (27, 46, 38, 3, 29, 48, 40, 31, 2, 35),
    (22, 13, 39, 49, 32, 26, 42, 21, 19, 36),
    (23, 41, 14, 24, 33, 30, 4, 17, 10, 45),
    (47, 34, 20, 44, 25, 6, 7, 1, 28, 18),
    (43, 5, 37, 12, 9, 0, 11, 8, 15, 16),
)
ESC50_CATEGORIES = tuple(tuple(range(10 * i, 10 * i + 10)) for i in range(5))
# FSC22 class ids. Its other classes are trained on.
FSC22_VALIDATION = (7, 9, 10, 13, 14, 19, 23)
FSC22_TEST = (6, 8, 16, 18, 22, 24, 27)

VALIDATION_SHARE = 0.2  # of the clips that may be trained on


@dataclass(frozen=True)
class ClassSplit:
    """Names of the classes trained on, and of those kept unseen for validation and for the test.

    missing  classes of a named split that the data set's folder does not hold
    """

    name: str
    seen: tuple[str, ...]
    unseen_validation: tuple[str, ...] = ()
    unseen_test: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def warning(self) -> str | None:
        """One line that names the missing classes; None where there are none."""
        if not self.missing:
            return None
        return (
            f"warning: split {self.name}: the data set's folder lacks {len(self.missing)} of its classes "
            f"({', '.join(self.missing)}): scores do not compare with those of the whole data set"
        )


@dataclass(frozen=True)
class ClipSplit:
    """Clips of the seen classes, by use. test is empty where no recording fold is held out."""

    train: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    test: tuple[Clip, ...]


def split_names(dataset: str) -> list[str]:
    """The class splits that a data set knows."""
    named = {
        "ESC-50": [f"cat{i}" for i in range(5)] + [f"fold{i}" for i in range(5)] + [f"fold{i}4" for i in range(4)],
        "FSC22": ["train", "val", "test"],
    }
    return ["all", "random", *named.get(dataset, [])]


def split_classes(table: ClipTable, name: str, seed: int = 0, unseen: tuple[str, ...] = ()) -> ClassSplit:
    """The classes of a named split.

    unseen   class names to keep unseen; goes with the split "all", and makes it "unseen"
    seed     chooses the unseen classes of "random": three in ten of them
    errors   UsageError: a split that the data set does not know; DataError: fewer than two seen classes, or a named
             split none of whose unseen classes is there
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
        raise DataError(f"split {name}: leaves {len(split.seen)} class to train on; training needs two or more")
    return split


def _without(table: ClipTable, name: str, validation: tuple[str, ...], test: tuple[str, ...]) -> ClassSplit:
    seen = tuple(label for label in table.classes if label not in {*validation, *test})
    return ClassSplit(name, seen, validation, test)


def _leave_out(table: ClipTable, name: str, unseen: tuple[str, ...]) -> ClassSplit:
    if name != "all":
        raise UsageError(f"--unseen names the unseen classes itself; leave out --split {name}")
    classes = {normalise_label(label): label for label in table.classes}
    unknown = sorted(label for label in unseen if normalise_label(label) not in classes)
    if unknown:
        raise UsageError(f"unseen: got {join_labels(unknown)}; {table.dataset} has {join_labels(table.classes)}")
    named = tuple(classes[normalise_label(label)] for label in unseen)
    if len(set(named)) < len(named):
        raise UsageError(f"unseen: got {join_labels(unseen)}; name each class once")
    return _without(table, "unseen", (), named)


def _named(table: ClipTable, name: str) -> ClassSplit:
    """A split of the study's, of those of its classes that the table has."""
    names = CLASS_NAMES[table.dataset]
    there = dict(zip(table.numbers, table.classes, strict=True))
    validation, test = (
        tuple(there[number] for number in numbers if number in there)
        for numbers in _unseen_numbers(table.dataset, name)
    )
    if not validation and not test:
        raise DataError(
            f"split {name}: the folder has none of the classes that it keeps unseen, {len(there)} of {table.dataset}'s "
            f"{len(names)} in all; give the whole data set, or another --split"
        )
    missing = tuple(label for number, label in names.items() if number not in there)
    return replace(_without(table, name, validation, test), missing=missing)


def _unseen_numbers(dataset: str, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Class numbers kept for validation and for the test."""
    if dataset == "FSC22":
        # "val" and "test" train on the same classes as "train" and differ in what is judged.
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
    """Share out the clips of the seen classes; no source recording is in both training and validation.

    test_fold         the data set's recording fold held out as the test set; None: no test set
    validation_share  0 to 0.5, of the clips that are left; 0: all of them are trained on
    errors     UsageError: a fold that the data set does not have; DataError: too few source recordings
    """
    seen = {table.classes.index(name) for name in classes.seen}
    clips = [clip for clip in table.clips if clip.label in seen]
    if test_fold is not None and test_fold not in table.folds:
        have = ", ".join(map(str, table.folds)) or "none"
        raise UsageError(f"test fold: got {test_fold}; {table.dataset} has {have}")
    test = tuple(clip for clip in clips if test_fold is not None and clip.fold == test_fold)
    # A source recording of the test fold is never trained on, whatever fold its other clips are in.
    test_sources = {clip.source for clip in test}
    rest = [clip for clip in clips if clip.source not in test_sources]
    if validation_share == 0:
        return ClipSplit(tuple(rest), (), test)
    labels = np.array([clip.label for clip in rest])
    sources = np.array([clip.source for clip in rest])
    few = [table.classes[i] for i in sorted(seen) if len(set(sources[labels == i])) < 2]
    if few:
        raise DataError(
            f"{table.dataset}: {', '.join(few)} has fewer than two source recordings to train and validate on; "
            "add recordings or leave the class out"
        )
    parts = min(round(1 / validation_share), min(len(set(sources[labels == i])) for i in seen))
    folds = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    train, validation = next(folds.split(labels, labels, sources))
    missing = [table.classes[i] for i in sorted(seen) if i not in labels[train]]
    if missing:
        raise DataError(f"{table.dataset}: no clip of {', '.join(missing)} is left to train on; add recordings")
    return ClipSplit(tuple(rest[i] for i in train), tuple(rest[i] for i in validation), test)
