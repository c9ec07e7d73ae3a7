"""Class splits are the study's; clip splits never share a source recording."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.errors import DataError, UsageError
from training.data.clips import ClipTable, LabelledClip, load_clips
from training.data.known_classes import CLASS_NAMES
from training.data.splits import split_classes, split_clips, split_names

STUDY = json.loads((Path(__file__).parent / "class_splits.json").read_text())


def table_of(dataset: str, classes: list[str], clips_each: int = 6, folds: int = 3) -> ClipTable:
    clips = [
        LabelledClip(Path(f"{label}-{i}.wav"), label, f"{label}-{i // 2}", 1 + i // 2 % folds)
        for label in range(len(classes))
        for i in range(clips_each)
    ]
    first = 1 if dataset == "FSC22" else 0
    return ClipTable(dataset, tuple(classes), tuple(clips), "none", tuple(range(first, first + len(classes))))


def part_of(table: ClipTable, left_out: set[str]) -> ClipTable:
    """The table as a folder gives it that lacks some of the classes."""
    kept = [i for i, name in enumerate(table.classes) if name not in left_out]
    clips = tuple(replace(clip, label=kept.index(clip.label)) for clip in table.clips if clip.label in kept)
    names, numbers = (tuple(values[i] for i in kept) for values in (table.classes, table.numbers))
    return replace(table, classes=names, clips=clips, numbers=numbers)


ESC50 = table_of("ESC-50", STUDY["ESC-50"]["classes"])
FSC22 = table_of("FSC22", STUDY["FSC22"]["classes"])


def names(table: ClipTable, indices: list[int]) -> set[str]:
    return {table.classes[i] for i in indices}


def test_class_names_are_listed_by_the_data_sets_own_numbers():
    assert list(CLASS_NAMES["ESC-50"].items()) == list(enumerate(STUDY["ESC-50"]["classes"]))
    assert list(CLASS_NAMES["FSC22"].items()) == list(enumerate(STUDY["FSC22"]["classes"], start=1))


@pytest.mark.parametrize("x", range(5))
def test_fold_and_cat_splits_leave_out_the_studys_partitions(x):
    for prefix, partition in (("fold", "random_partition"), ("cat", "category_partition")):
        split = split_classes(ESC50, f"{prefix}{x}")
        left_out = names(ESC50, STUDY["ESC-50"][partition][f"{prefix}{x}"])
        assert set(split.unseen_test) == left_out
        assert set(split.seen) == set(ESC50.classes) - left_out


@pytest.mark.parametrize("x", range(4))
def test_fold_x4_trains_on_30_classes_and_validates_on_fold_x(x):
    split = split_classes(ESC50, f"fold{x}4")
    folds = STUDY["ESC-50"]["random_partition"]
    assert set(split.unseen_validation) == names(ESC50, folds[f"fold{x}"])
    assert set(split.unseen_test) == names(ESC50, folds["fold4"])
    assert len(split.seen) == 30
    assert not set(split.seen) & {*split.unseen_validation, *split.unseen_test}


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_fsc22_splits_train_on_the_studys_13_classes(name):
    split = split_classes(FSC22, name)
    assert set(split.seen) == names(FSC22, STUDY["FSC22"]["train"])
    assert set(split.unseen_validation) == names(FSC22, STUDY["FSC22"]["val"])
    assert set(split.unseen_test) == names(FSC22, STUDY["FSC22"]["test"])


WITHOUT_FOLD4 = part_of(ESC50, names(ESC50, STUDY["ESC-50"]["random_partition"]["fold4"]))
NAMED = [("ESC-50", name) for name in split_names("ESC-50")[2:]] + [
    ("FSC22", name) for name in split_names("FSC22")[2:]
]


@pytest.mark.parametrize(("dataset", "name"), NAMED)
@pytest.mark.parametrize("every", [2, 3, 7])
def test_a_part_of_a_data_set_is_split_as_the_whole_and_says_what_it_lacks(dataset, name, every):
    whole = {"ESC-50": ESC50, "FSC22": FSC22}[dataset]
    left_out = set(whole.classes[::every])
    split, wanted = split_classes(part_of(whole, left_out), name), split_classes(whole, name)
    for part in ("seen", "unseen_validation", "unseen_test"):
        assert getattr(split, part) == tuple(each for each in getattr(wanted, part) if each not in left_out)
    assert set(split.missing) == left_out
    assert wanted.missing == ()
    assert wanted.warning() is None
    line = split.warning()
    assert line is not None
    assert "\n" not in line
    assert all(each in line for each in left_out)


def test_a_split_of_which_no_unseen_class_is_there_is_refused():
    with pytest.raises(DataError, match="split fold4: the folder has none of the classes that it keeps unseen"):
        split_classes(WITHOUT_FOLD4, "fold4")
    trained = names(FSC22, STUDY["FSC22"]["train"])
    with pytest.raises(DataError, match=r"split test: .* 13 of FSC22's 27 in all"):
        split_classes(part_of(FSC22, set(FSC22.classes) - trained), "test")


def test_a_split_whose_test_classes_are_missing_keeps_its_validation_classes():
    split = split_classes(WITHOUT_FOLD4, "fold04")
    assert set(split.unseen_validation) == names(ESC50, STUDY["ESC-50"]["random_partition"]["fold0"])
    assert split.unseen_test == ()
    assert len(split.seen) == 30
    assert set(split.missing) == names(ESC50, STUDY["ESC-50"]["random_partition"]["fold4"])


def test_every_named_split_of_real_recordings_of_40_classes_is_the_studys(esc50):
    table = load_clips("ESC-50", esc50)
    named = STUDY["ESC-50"]["random_partition"] | STUDY["ESC-50"]["category_partition"]
    by_place = STUDY["ESC-50"]["classes"]
    for name in split_names("ESC-50")[2:]:
        wanted = {by_place[i] for i in named[name if len(name) < 6 else "fold4"]} & set(table.classes)
        validation = {by_place[i] for i in named[name[:5]]} & set(table.classes) if len(name) == 6 else set()
        if not wanted | validation:
            with pytest.raises(DataError, match=name):
                split_classes(table, name)
            continue
        split = split_classes(table, name)
        assert (set(split.unseen_test), set(split.unseen_validation)) == (wanted, validation)
        assert set(split.seen) == set(table.classes) - wanted - validation
        assert set(split.missing) == set(by_place) - set(table.classes)


def test_random_splits_depend_on_the_seed_alone():
    one, again, other = (split_classes(ESC50, "random", seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len(one.unseen_test) == 15


def test_unseen_classes_can_be_named():
    split = split_classes(ESC50, "all", unseen=("dog", "rain"))
    assert split.unseen_test == ("dog", "rain")
    assert len(split.seen) == 48


def test_an_unknown_split_lists_the_known_ones():
    with pytest.raises(UsageError) as caught:
        split_classes(ESC50, "fold9")
    assert all(name in str(caught.value) for name in split_names("ESC-50"))


def test_unseen_classes_are_found_however_their_names_are_typed():
    names = ["cow", "Dog, barking", unicodedata.normalize("NFD", "église"), "rain"]
    table = table_of("folder", names)
    split = split_classes(table, "all", unseen=("Cow", unicodedata.normalize("NFC", "Église")))
    assert split.unseen_test == (names[0], names[2])
    with pytest.raises(UsageError, match="name each class once"):
        split_classes(table, "all", unseen=("rain", "Rain"))


@pytest.mark.parametrize("flag", ["Dog, barking,rain", '"dog, barking","rain"', " rain , dog,barking"])
def test_the_flag_takes_names_with_commas(flag):
    from training.options import Options, configure

    table = table_of("folder", ["cow", "Dog, barking", "hen", "rain"])
    config = configure(Options(dataset="folder", objective="classes", unseen=flag), table)
    assert set(config.split.unseen_test) == {"Dog, barking", "rain"}
    with pytest.raises(UsageError, match='got dog; folder has cow, "Dog, barking", hen, rain'):
        configure(Options(dataset="folder", objective="classes", unseen="dog,rain"), table)


@pytest.mark.parametrize("twins", [("Dog", "dog"), ("sea_waves", "sea waves"), ("e\u0301glise", "\u00e9glise")])
def test_folders_whose_names_are_one_label_are_refused(tmp_path, twins):
    for name in (*twins, "rain"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.wav").touch()
    with pytest.raises(DataError, match=r"the classes '.*' and '.*' are one label"):
        load_clips("folder", tmp_path)


def test_an_unknown_unseen_class_is_named():
    with pytest.raises(UsageError, match="unicorn"):
        split_classes(ESC50, "all", unseen=("unicorn",))


def test_a_split_that_leaves_one_class_is_refused():
    with pytest.raises(DataError, match="two or more"):
        split_classes(ESC50, "all", unseen=ESC50.classes[1:])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("test_fold", [None, 2])
def test_training_validation_and_test_share_no_source(seed, test_fold):
    parts = split_clips(ESC50, split_classes(ESC50, "fold04"), test_fold, seed)
    sources = [{clip.source for clip in part} for part in (parts.train, parts.validation, parts.test)]
    assert sum(len(part) for part in sources) == len(set.union(*sources))
    seen = set(split_classes(ESC50, "fold04").seen)
    for part in (parts.train, parts.validation):
        assert {ESC50.classes[clip.label] for clip in part} == seen
    assert bool(parts.test) == (test_fold is not None)


def test_a_source_of_the_test_fold_is_never_trained_on_in_another_fold():
    clips = [
        LabelledClip(Path(f"{label}-{i}.wav"), label, f"{label}-{i // 2}", 1 + i % 2)
        for label in range(2)
        for i in range(6)
    ]
    clips += [
        LabelledClip(Path(f"{label}-x{i}.wav"), label, f"{label}-x{i}", 1) for label in range(2) for i in range(4)
    ]
    table = ClipTable("ESC-50", ("a", "b"), tuple(clips), "none")
    parts = split_clips(table, split_classes(table, "all"), 2, 0)
    test_sources = {clip.source for clip in parts.test}
    assert not test_sources & {clip.source for clip in (*parts.train, *parts.validation)}


def test_a_source_of_an_unseen_class_is_never_trained_on():
    shared = [replace(clip, source="0-0") if clip.source == "2-1" else clip for clip in ESC50.clips]
    table = replace(ESC50, clips=tuple(shared))
    split = split_classes(table, "all", unseen=(table.classes[2],))
    parts = split_clips(table, split, None, 0)
    left_out = {clip.path for clip in table.clips if clip.label != 2} - {
        clip.path for clip in (*parts.train, *parts.validation)
    }
    assert left_out == {clip.path for clip in table.clips if clip.label == 0 and clip.source == "0-0"}


def test_a_test_fold_without_clips_of_seen_classes_is_refused():
    table = replace(ESC50, clips=tuple(clip for clip in ESC50.clips if clip.fold != 2 or clip.label == 0))
    split = split_classes(table, "all", unseen=(table.classes[0],))
    with pytest.raises(UsageError, match=r"got 2; the seen classes of ESC-50 have 1, 3"):
        split_clips(table, split, 2, 0)


@pytest.mark.parametrize(("share", "kept"), [(0.02, 1 / 50), (0.2, 1 / 5), (0.3, 1 / 3), (0.4, 1 / 3), (0.5, 1 / 2)])
def test_the_nearest_share_of_one_part_is_kept(share, kept):
    table = folder_of([300, 300])
    parts = split_clips(table, split_classes(table, "all"), None, 0, share)
    assert len(parts.validation) / len(table.clips) == pytest.approx(kept, abs=0.005)


def test_a_digest_tells_whether_clips_have_changed_their_part():
    split = split_classes(ESC50, "all")
    parts, again, others = (split_clips(ESC50, split, None, seed) for seed in (0, 0, 1))
    assert parts.digest == again.digest != others.digest


def test_the_digest_of_the_same_clips_stays_what_older_runs_have_stored():
    clips = tuple(LabelledClip(Path(f"é{i}.wav"), i % 2, f"ü{i}", None) for i in range(12))
    table = ClipTable("folder", ("a dog", "rain"), clips, "none")
    assert split_clips(table, split_classes(table, "all"), None, 0).digest == "2a4b2dbf8de506e2"


def test_a_fold_that_is_not_there_lists_those_that_are():
    with pytest.raises(UsageError, match=r"got 9.*1, 2, 3"):
        split_clips(ESC50, split_classes(ESC50, "all"), 9, 0)


def test_a_class_with_one_source_recording_is_named():
    table = table_of("ESC-50", ["lonely", "lost"], clips_each=2)
    with pytest.raises(DataError, match="lonely"):
        split_clips(table, split_classes(table, "all"), None, 0)


def folder_of(counts: list[int], fold: int | None = None) -> ClipTable:
    """A folder with so many recordings of each class; those of the last class are in a recording fold."""
    clips = [
        LabelledClip(Path(f"{label}-{i}.wav"), label, f"{label}-{i}", fold if label == len(counts) - 1 else None)
        for label, count in enumerate(counts)
        for i in range(count)
    ]
    return ClipTable("folder", tuple(f"class {i}" for i in range(len(counts))), tuple(clips), "none")


@pytest.mark.parametrize("seed", range(5))
def test_a_small_class_does_not_make_more_validation_clips_of_the_others(seed, recwarn):
    table = folder_of([40, 40, 40, 40, 2])
    parts = split_clips(table, split_classes(table, "all"), None, seed)
    assert 0.15 < len(parts.validation) / len(table.clips) < 0.25
    assert {clip.label for clip in parts.train} == set(range(5))
    assert not recwarn.list


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_class_whose_clips_are_all_of_the_test_fold_is_named(share):
    table = folder_of([6, 6, 6], fold=1)
    with pytest.raises(DataError, match="class 2"):
        split_clips(table, split_classes(table, "all"), 1, 0, share)


def test_real_recordings_are_split_by_source(esc10):
    table = load_clips("ESC-10", esc10)
    parts = split_clips(table, split_classes(table, "all"), 4, 0)
    assert len(parts.test) == 80
    assert not {clip.source for clip in parts.train} & {clip.source for clip in parts.validation}
    assert 0.1 < len(parts.validation) / (len(parts.train) + len(parts.validation)) < 0.3
    counts = np.bincount([clip.label for clip in parts.validation], minlength=10)
    assert counts.min() > 0
