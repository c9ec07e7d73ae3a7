"""Which classes a model may learn from, and which clips test and validate it.

A class split's name lists the partitions that are not trained on: fold4 trains on the 40 ESC-50 classes outside
fold4's ten, fold04 on the 30 outside fold0's and fold4's. In foldX4, X is the unseen partition for validation
and 4 the one for the final test. Source: the study's code (github.com/ysims/ZeroDiffusion).
"""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from serving.errors import DataError, UsageError
from serving.labels import join_labels, plain
from training.data.clips import Clip, ClipTable

# ESC-50 targets, by partition.
ESC50_FOLDS = (
    (27, 46, 38, 3, 29, 48, 40, 31, 2, 35),
    (22, 13, 39, 49, 32, 26, 42, 21, 19, 36),
    (23, 41, 14, 24, 33, 30, 4, 17, 10, 45),
    (47, 34, 20, 44, 25, 6, 7, 1, 28, 18),
    (43, 5, 37, 12, 9, 0, 11, 8, 15, 16),
)
ESC50_CATEGORIES = tuple(tuple(range(10 * i, 10 * i + 10)) for i in range(5))
# FSC22 class indices (0-based).
FSC22_TRAIN = (0, 1, 2, 3, 4, 10, 11, 14, 16, 19, 20, 24, 25)
FSC22_VALIDATION = (6, 8, 9, 12, 13, 18, 22)
FSC22_TEST = (5, 7, 15, 17, 21, 23, 26)

VALIDATION_SHARE = 0.2  # of the clips that may be trained on


@dataclass(frozen=True)
class ClassSplit:
    """Names of the classes trained on, and of those kept unseen for validation and for the test."""

    name: str
    seen: tuple[str, ...]
    unseen_validation: tuple[str, ...] = ()
    unseen_test: tuple[str, ...] = ()


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
    errors   UsageError: a split that the data set does not know; DataError: fewer than two seen classes
    """
    known = split_names(table.dataset)
    if name not in known:
        raise UsageError(f"split: got {name}; {table.dataset} has {', '.join(known)}")
    validation: tuple[int, ...] = ()
    test: tuple[int, ...] = ()
    if unseen:
        if name != "all":
            raise UsageError(f"--unseen names the unseen classes itself; leave out --split {name}")
        places = {plain(label): place for place, label in enumerate(table.classes)}
        unknown = sorted(label for label in unseen if plain(label) not in places)
        if unknown:
            raise UsageError(f"unseen: got {join_labels(unknown)}; {table.dataset} has {join_labels(table.classes)}")
        name, test = "unseen", tuple(places[plain(label)] for label in unseen)
        if len(set(test)) < len(test):
            raise UsageError(f"unseen: got {join_labels(unseen)}; name each class once")
    elif name == "random":
        order = np.random.default_rng(seed).permutation(len(table.classes))
        test = tuple(int(i) for i in order[: round(0.3 * len(order))])
    elif name.startswith("cat"):
        test = ESC50_CATEGORIES[int(name[3:])]
    elif name.startswith("fold"):
        test = ESC50_FOLDS[int(name[-1])]
        validation = ESC50_FOLDS[int(name[4])] if len(name) == 6 else ()
    elif table.dataset == "FSC22" and name != "all":
        # "val" and "test" train on the same classes as "train" and differ in what is judged.
        validation = FSC22_VALIDATION
        test = FSC22_TEST
    left_out = set(validation) | set(test)
    seen = tuple(label for i, label in enumerate(table.classes) if i not in left_out)
    if len(seen) < 2:
        raise DataError(f"split {name}: leaves {len(seen)} class to train on; training needs two or more")
    return ClassSplit(name, seen, tuple(table.classes[i] for i in validation), tuple(table.classes[i] for i in test))


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
