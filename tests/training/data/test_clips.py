"""Data sets are read as they are, quirks included, and what is wrong with one is named."""

import csv
import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serving.errors import DataError
from training.data.clips import FSC22_META, data_root, freesound_source, load_clips
from training.data.splits import split_classes, split_clips

ESC_COLUMNS = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(160, np.float32), 16_000)


def write_csv(path: Path, columns: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def esc50(tmp_path) -> Path:
    rows = [
        ["1-1-A-0.wav", 1, 0, "dog", "True", 1, "A"],
        ["2-2-A-10.wav", 2, 10, "rain", "True", 2, "A"],
        ["3-3-A-2.wav", 3, 2, "pig", "False", 3, "A"],
    ]
    for row in rows:
        touch(tmp_path / "audio" / row[0])
    write_csv(tmp_path / "meta" / "esc50.csv", ESC_COLUMNS, rows)
    return tmp_path


def test_esc50_gives_classes_in_the_order_of_their_targets(esc50):
    table = load_clips("ESC-50", esc50)
    assert table.classes == ("dog", "pig", "rain")
    assert [table.classes[clip.label] for clip in table.clips] == ["dog", "rain", "pig"]
    assert table.folds == [1, 2, 3]
    assert table.numbers == (0, 2, 10)


def test_esc10_takes_the_flagged_classes_of_an_esc50_folder(esc50):
    assert load_clips("ESC-10", esc50).classes == ("dog", "rain")


@pytest.mark.parametrize("audio", ["Audios", "Audio Wise V1.0-20220916T202003Z-001/Audio Wise V1.0"])
@pytest.mark.parametrize("meta", ["", "Metadata-20220916T202011Z-001/Metadata"])
def test_fsc22_is_read_in_both_of_its_known_layouts(tmp_path, audio, meta):
    rows = [["17548__A.wav", "1_10101.wav", 1, "Fire"], ["17548_B.wav", "1_10102.wav", 1, "Fire"]]
    rows += [["https-::a.b:j:1?pwd=c.wav", "27_12757.wav", 27, "Squirrel"]]
    for row in rows:
        touch(tmp_path / audio / row[1])
    write_csv(tmp_path / meta / FSC22_META, ["Source File Name", "Dataset File Name", "Class ID", "Class Name"], rows)
    table = load_clips("FSC22", tmp_path)
    assert table.classes == ("fire", "squirrel")  # those that have clips
    assert table.numbers == (1, 27)
    assert [table.classes[clip.label] for clip in table.clips] == ["fire", "fire", "squirrel"]
    assert table.clips[0].source == table.clips[1].source != table.clips[2].source


def nest(folder: Path, names: list[str]) -> Path:
    """The data set's folder moved into one of these names, copied into the others."""
    outer = folder.parent / f"{folder.name}-outer"
    for name in names:
        shutil.copytree(folder, outer / name)
    return outer


def test_a_data_set_in_one_folder_more_is_found(esc50):
    outer = nest(esc50, ["ESC-50-master"])
    (outer / "__MACOSX").mkdir()
    assert load_clips("ESC-50", outer).classes == load_clips("ESC-50", esc50).classes
    assert load_clips("ESC-10", outer).classes == ("dog", "rain")
    assert data_root("ESC-50", outer) == outer / "ESC-50-master"


def test_a_data_set_that_lies_in_two_folders_is_refused(esc50):
    fails("ESC-50", nest(esc50, ["ESC-50-master", "copy"]), "2 folders", "ESC-50-master", "copy", "--data-dir")


def write_fsc22(audio: Path, table: Path) -> None:
    rows = [[f"{i}.wav", f"{i}_1.wav", i, "any"] for i in (3, 9)]
    for row in rows:
        touch(audio / row[1])
    write_csv(table, ["Source File Name", "Dataset File Name", "Class ID", "Class Name"], rows)


@pytest.mark.parametrize(
    ("audio", "meta"),
    [
        ("FSC22-main/Audios", f"FSC22-main/{FSC22_META}"),
        (
            "archive/Audio Wise V1.0-20220916T202003Z-001/Audio Wise V1.0",
            f"archive/Metadata-2022/Metadata/{FSC22_META}",
        ),
        ("Audio Wise V1.0-20240101T000000Z-001/Audio Wise V1.0", f"Metadata-2024/Metadata/{FSC22_META}"),
    ],
)
def test_fsc22_in_one_folder_more_is_found(tmp_path, audio, meta):
    write_fsc22(tmp_path / audio, tmp_path / meta)
    assert load_clips("FSC22", tmp_path).classes == ("thunderstorm", "vehicle_engine")


def test_fsc22_in_two_folders_or_with_two_tables_is_refused(tmp_path):
    for name in ("a", "b"):
        write_fsc22(tmp_path / name / "Audios", tmp_path / name / FSC22_META)
    fails("FSC22", tmp_path, "2 folders", "(a, b)")
    write_fsc22(tmp_path / "a" / "Audios", tmp_path / "a" / "again" / FSC22_META)
    fails("FSC22", tmp_path / "a", FSC22_META, "2 times")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("17548__A.wav", "17548"),
        ("579840_2.wav", "579840"),
        ("39877__csengeri__thunderrumble19august2007.wav", "39877"),
        ("193045__(1)_frithjof__stille-mit-vogel (1).wav", "193045"),
        ("376832(2)_.wav.wav", "376832"),
        ("renam (1).wav", "renam"),
        ("renam (12).wav", "renam"),
    ],
)
def test_clips_of_one_freesound_recording_share_a_source(name, source):
    assert freesound_source(name) == source


def test_a_folder_of_class_folders_is_a_data_set(recordings):
    table = load_clips("folder", recordings)
    assert table.classes == ("clicks", "noise", "tone")
    assert len(table.clips) == 24


def test_recordings_of_one_name_in_several_folders_of_a_class_are_several_sources(tmp_path):
    for name, site in product(("frog", "owl"), ("site 1", "site 2", "site 3")):
        touch(tmp_path / name / site / "rec.wav")
    assert len({clip.source for clip in load_clips("folder", tmp_path).clips}) == 6


def test_the_files_of_a_subfolder_of_a_class_are_of_one_recording(tmp_path):
    for recording, cut in product(("rec1", "rec2", "rec3"), range(5)):
        touch(tmp_path / "dog" / recording / f"cut{cut}.wav")
        touch(tmp_path / "rain" / recording / "evening" / f"cut{cut}.wav")
    for number in range(3):
        touch(tmp_path / "rain" / f"{number}.wav")
    table = load_clips("folder", tmp_path)
    sources = {clip.path.relative_to(tmp_path).as_posix(): clip.source for clip in table.clips}
    assert sources["dog/rec1/cut0.wav"] == sources["dog/rec1/cut4.wav"] != sources["dog/rec2/cut0.wav"]
    assert sources["rain/rec1/evening/cut0.wav"] != sources["dog/rec1/cut0.wav"]
    assert len(set(sources.values())) == 3 + 3 + 3
    for seed in range(5):
        parts = split_clips(table, split_classes(table, "all"), None, seed)
        train, validation = (
            {clip.path.relative_to(tmp_path).parts[:2] for clip in part} for part in (parts.train, parts.validation)
        )
        assert validation
        assert not train & validation


def test_a_class_whose_files_are_all_in_one_subfolder_is_named_with_the_reason(tmp_path):
    for name, recording in (("dog", "rec1"), ("rain", "rec1"), ("rain", "rec2")):
        touch(tmp_path / name / recording / "a.wav")
        touch(tmp_path / name / recording / "b.wav")
    table = load_clips("folder", tmp_path)
    with pytest.raises(DataError, match=r"dog has fewer than two source recordings \(the files of one subfolder"):
        split_clips(table, split_classes(table, "all"), None, 0)


def test_a_class_folder_whose_name_is_not_utf8_is_named(tmp_path):
    touch(tmp_path / "frog" / "a.wav")
    touch(tmp_path / "owl" / "a.wav")
    (tmp_path / "owl").rename(tmp_path / os.fsdecode(b"owl\xff"))
    fails("folder", tmp_path, "not UTF-8", "rename it")


def test_real_esc10_has_ten_classes_of_32_clips(esc10):
    table = load_clips("ESC-10", esc10)
    assert len(table.classes) == 10
    assert {sum(clip.label == label for clip in table.clips) for label in range(10)} == {32}


def fails(dataset: str, folder: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        load_clips(dataset, folder)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_an_unknown_data_set_lists_the_known_ones(tmp_path):
    fails("ESC-5", tmp_path, "ESC-5", "ESC-50", "ESC-10", "FSC22", "synthetic", "folder")


def test_a_missing_folder_is_named(tmp_path):
    fails("ESC-50", tmp_path / "nowhere", "nowhere", "--data-dir")


@pytest.mark.parametrize("dataset", ["ESC-50", "ESC-10", "FSC22", "synthetic", "folder"])
def test_an_empty_folder_is_refused(dataset, tmp_path):
    fails(dataset, tmp_path, str(tmp_path))


def test_a_table_without_its_columns_says_which(esc50):
    write_csv(esc50 / "meta" / "esc50.csv", ["filename", "fold"], [["a.wav", 1]])
    fails("ESC-50", esc50, "target", "esc50.csv")


def test_a_table_without_rows_is_refused(esc50):
    write_csv(esc50 / "meta" / "esc50.csv", ESC_COLUMNS, [])
    fails("ESC-50", esc50, "no clips")


def test_a_row_whose_file_is_missing_is_named_with_its_file(esc50):
    (esc50 / "audio" / "2-2-A-10.wav").unlink()
    fails("ESC-50", esc50, "row 3", "2-2-A-10.wav")


def test_a_target_that_is_no_number_is_named_with_its_row(esc50):
    write_csv(esc50 / "meta" / "esc50.csv", ESC_COLUMNS, [["1-1-A-0.wav", 1, "zero", "dog", "True", 1, "A"]])
    fails("ESC-50", esc50, "row 2", "target", "zero")


def test_an_empty_cell_is_named_with_its_row(esc50):
    write_csv(esc50 / "meta" / "esc50.csv", ESC_COLUMNS, [["1-1-A-0.wav", "", 0, "dog", "True", 1, "A"]])
    fails("ESC-50", esc50, "row 2", "fold")


def test_one_target_with_two_names_is_refused(esc50):
    rows = [["1-1-A-0.wav", 1, 0, "dog", "True", 1, "A"], ["2-2-A-10.wav", 2, 0, "rain", "True", 2, "A"]]
    write_csv(esc50 / "meta" / "esc50.csv", ESC_COLUMNS, rows)
    fails("ESC-50", esc50, "row 3", "rain", "dog")


def test_one_class_only_is_refused(esc50):
    write_csv(esc50 / "meta" / "esc50.csv", ESC_COLUMNS, [["1-1-A-0.wav", 1, 0, "dog", "True", 1, "A"]])
    fails("ESC-50", esc50, "dog", "two or more")


def test_a_file_listed_twice_is_refused(esc50):
    rows = [
        ["1-1-A-0.wav", fold, target, name, "True", fold, "A"]
        for fold, target, name in ((1, 0, "dog"), (4, 10, "rain"))
    ]
    write_csv(esc50 / "meta" / "esc50.csv", ESC_COLUMNS, rows)
    fails("ESC-50", esc50, "1-1-A-0.wav", "more than once")


def test_two_targets_with_one_name_are_refused(esc50):
    rows = [["1-1-A-0.wav", 1, 0, "dog", "True", 1, "A"], ["2-2-A-10.wav", 2, 10, "dog", "True", 2, "A"]]
    write_csv(esc50 / "meta" / "esc50.csv", ESC_COLUMNS, rows)
    fails("ESC-50", esc50, "dog", "more than once")


@pytest.mark.parametrize("name", ["../../outside.wav", "/etc/hostname"])
def test_a_file_outside_the_data_set_is_refused(esc50, name):
    write_csv(esc50 / "meta" / "esc50.csv", ESC_COLUMNS, [[name, 1, 0, "dog", "True", 1, "A"]])
    fails("ESC-50", esc50, "row 2", name)


def test_a_table_that_is_not_utf8_is_refused(esc50):
    (esc50 / "meta" / "esc50.csv").write_bytes(",".join(ESC_COLUMNS).encode() + b"\n\xff\xfe,1,0,dog,True,1,A\n")
    fails("ESC-50", esc50, "esc50.csv", "UTF-8")


def test_blanks_around_a_source_do_not_make_it_another(esc50):
    rows = [["1-1-A-0.wav", 1, 0, "dog", "True", "7 ", "A"], ["2-2-A-10.wav", 2, 10, "rain ", "True", " 7", "A"]]
    write_csv(esc50 / "meta" / "esc50.csv", ESC_COLUMNS, rows)
    table = load_clips("ESC-50", esc50)
    assert {clip.source for clip in table.clips} == {"7"}
    assert table.classes == ("dog", "rain")


def test_a_folder_named_like_a_recording_is_no_recording(tmp_path):
    for name in ("a", "b"):
        touch(tmp_path / name / "1.wav")
    (tmp_path / "a" / "folder.wav").mkdir()
    assert len(load_clips("folder", tmp_path).clips) == 2


def test_a_class_folder_without_audio_is_named(recordings, tmp_path):
    (tmp_path / "full").mkdir()
    touch(tmp_path / "full" / "a.wav")
    (tmp_path / "hollow").mkdir()
    fails("folder", tmp_path, "hollow")


def test_an_fsc22_class_id_out_of_range_is_named(tmp_path):
    touch(tmp_path / "Audios" / "28_1.wav")
    columns = ["Source File Name", "Dataset File Name", "Class ID", "Class Name"]
    write_csv(tmp_path / FSC22_META, columns, [["1.wav", "28_1.wav", 28, "Unicorn"]])
    fails("FSC22", tmp_path, "row 2", "28")
