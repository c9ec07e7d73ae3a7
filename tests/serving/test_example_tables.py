"""Tables of examples: those of Raven, Audacity and Parquet, also as `serving.label` writes them, and wrong ones."""

import errno
import os
import shutil
import unicodedata
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from demo.bundle_choice import FROM_SCRATCH
from demo.examples import EXAMPLE_SOUNDS
from serving.errors import DataError, UsageError
from serving.label import main as label_main
from serving.teach import main
from serving.teaching.example_sources import read_examples

RAVEN = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tSpecies"
SEQUENCE = "Begin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tAnnotation"


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Two recorders that name their files alike, and another recording."""
    for name in ("site1/20190318_191730.WAV", "site2/20190318_191730.WAV", "night1.flac"):
        write(tmp_path / "recordings" / name)
    return tmp_path / "recordings"


def stretches(table: Path, recordings: Path | None = None) -> list[tuple[str, str, float, float | None]]:
    return [
        (each.label, each.source.name if isinstance(each.source, Path) else "", each.start_s, each.end_s)
        for each in read_examples(table, recordings)
    ]


@pytest.mark.parametrize("form", ["csv", "parquet", "raven", "audacity"])
def test_every_format_that_label_writes_for_each_recording_can_be_taught(form, tmp_path, capsys):
    recordings = tmp_path / "recordings"
    for place in ("site1", "site2"):
        (recordings / place).mkdir(parents=True)
        shutil.copy(EXAMPLE_SOUNDS / "frog.ogg", recordings / place / "a.ogg")
    shutil.copy(EXAMPLE_SOUNDS / "siren.ogg", recordings / "site2" / "a.ogg")
    shutil.copy(EXAMPLE_SOUNDS / "rain.ogg", recordings / "b.ogg")
    tables = tmp_path / "tables"
    labelled = [FROM_SCRATCH, recordings, "--labels", "frog, siren, rain", "--per-recording", "--format", form]
    assert label_main([*map(str, [*labelled, "--out", tables, "--probability", 0, "--threshold", -1])]) == 0
    examples = read_examples(tables, recordings)
    assert {each.source for each in examples} == {recordings / name for name in ("site1/a.ogg", "site2/a.ogg", "b.ogg")}
    capsys.readouterr()
    taught = [FROM_SCRATCH, tables, "--recordings", recordings, "--out", tmp_path / "mine"]
    assert main([*map(str, taught), "--backend", "onnxruntime"]) == 0


@pytest.mark.parametrize("form", ["csv", "parquet", "raven"])
def test_one_table_of_several_recordings_is_read_in_each_format(form, tmp_path):
    for name in ("frog", "rain"):
        (tmp_path / "recordings" / name).mkdir(parents=True)
        shutil.copy(EXAMPLE_SOUNDS / f"{name}.ogg", tmp_path / "recordings" / name / "a.ogg")
    table = tmp_path / f"table.{'parquet' if form == 'parquet' else 'txt'}"
    labelled = [FROM_SCRATCH, tmp_path / "recordings", "--labels", "frog, rain", "--format", form, "--out", table]
    assert label_main([*map(str, [*labelled, "--probability", 0, "--threshold", -1])]) == 0
    examples = read_examples(table, tmp_path / "recordings")
    assert {each.source for each in examples} == {tmp_path / "recordings" / name / "a.ogg" for name in ("frog", "rain")}
    assert all(each.start_s < 5 for each in examples)


def test_a_selection_table_that_raven_saved_belongs_to_the_recording_of_its_name(recordings):
    table = write(
        recordings / "night1.Table.1.selections.txt",
        RAVEN,
        "1\tWaveform 1\t12.5\t17.3\t0.0\tfrog",
        "1\tSpectrogram 1\t12.5\t17.3\t0.0\tfrog",
        "2\tSpectrogram 1\t80\t80.5\t500.0\towl",
        "3\tSpectrogram 1\t90\t95\t500.0\t",
    )
    assert stretches(table) == [("frog", "night1.flac", 12.5, 17.3), ("owl", "night1.flac", 80.0, 80.5)]


def test_paths_of_another_machine_are_found_by_their_last_folders(recordings, tmp_path):
    header = "Begin Time (s)\tEnd Time (s)\tBegin Path\tFile Offset (s)\tCommon Name"
    table = write(
        tmp_path / "tables" / "all.txt",
        header,
        "1003.0\t1006.0\tE:\\card\\site2\\20190318_191730.WAV\t3.0\tEurasian Wren",
        "3.0\t6.0\t/media/card/site1/20190318_191730.WAV\t3.0\tEurasian Wren",
    )
    first, second = read_examples(table, recordings)
    assert first.source == recordings / "site2" / "20190318_191730.WAV"
    assert (first.start_s, first.end_s) == (3.0, 6.0)
    assert second.source == recordings / "site1" / "20190318_191730.WAV"


def test_a_label_track_of_audacity_is_read_with_commas_and_without_its_frequencies(recordings):
    table = write(
        recordings / "night1.txt",
        "0.500000\t1.500000\ta frog, near, loud",
        "\\\t100.0\t8000.0",
        "",
        "2\t3\t",
        "4\t5\towl",
    )
    assert stretches(table) == [("a frog, near, loud", "night1.flac", 0.5, 1.5), ("owl", "night1.flac", 4.0, 5.0)]


@pytest.mark.parametrize(
    ("name", "lines", "reason"),
    [
        (
            "night1.txt",
            [RAVEN.replace("Species", "Who"), "1\tv\t1\t2\t0\tfrog"],
            "name the column of labels Annotation",
        ),
        ("night1.txt", [RAVEN, "1\tv\t2\t1\t0\tfrog"], "row 2: starts at 2 s and ends at 1 s"),
        ("night1.txt", [RAVEN, "1\tv\t\t\t0\tfrog"], "row 2: has no time"),
        (
            "night1.txt",
            [SEQUENCE, "1\t2\tnight1.flac\t\tfrog", "9\t9.5\tsite1/20190318_191730.WAV\t\towl"],
            "row 3: is of",
        ),
        ("night1.txt", [SEQUENCE, "1\t2\tnight1.flac\t\t", "9\t9.5\tsite1/20190318_191730.WAV\t\towl"], "row 3: is of"),
        (
            "night1.txt",
            [SEQUENCE, "9\t10\tnight1.flac\t1\tfrog", "3\t4\tnight1.flac\t2\towl"],
            "row 3: Begin Time (s) and",
        ),
        ("night1.txt", [SEQUENCE, "1\t2\tnight1.flac\t5\tfrog"], "row 2: Begin Time (s) and File Offset (s) disagree"),
        ("20190318_191730.txt", ["1\t2\tfrog"], "line 1: 2 recordings in"),
        ("night1.txt", ["1\t1\tfrog"], "starts at 1 s and ends at 1 s; wanted an end after the start; remove it, or"),
        ("night1.txt", ["1\t2\tfrog night1.flac"], "line 1: the label ends with the name of a recording"),
        ("night9.txt", ["1\t2\tfrog"], "none of its recordings is there, such as"),
        ("night1.txt", [], "no row has a label"),
        ("night1.parquet", ["no Parquet"], "cannot be read as Parquet"),
        ("list.csv", ["file,from start,to,label", "night1.flac,1,2,frog"], "name the times start and end"),
        ("list.csv", ["file,label", ".,frog"], "none of its recordings is there"),
        ("list.csv", ["file,label,label", "night1.flac,frog,owl"], "has two columns named label"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row(recordings, name, lines, reason):
    table = write(recordings.parent / name, *lines)
    with pytest.raises(DataError) as refused:
        read_examples(table, recordings)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_recording_that_is_missing_is_not_replaced_by_its_namesake_of_another_folder(recordings, tmp_path):
    (recordings / "site1" / "20190318_191730.WAV").unlink()
    write(tmp_path / "tracks" / "site1" / "20190318_191730.WAV.labels.txt", "1\t2\tfrog")
    write(tmp_path / "tracks" / "site2" / "20190318_191730.WAV.labels.txt", "1\t2\towl")
    lost, found = read_examples(tmp_path / "tracks", recordings)
    assert lost.source == recordings / "site1" / "20190318_191730.WAV"
    assert found.source == recordings / "site2" / "20190318_191730.WAV"
    table = write(tmp_path / "list.csv", "file,label", "20190318_191730.WAV,frog", "night1.flac,owl")
    lost, _ = read_examples(table, recordings)
    assert lost.source == recordings / "20190318_191730.WAV"
    path = "D:\\card\\site1\\20190318_191730.WAV"
    table = write(tmp_path / "selections.txt", SEQUENCE, f"1\t2\t{path}\t1\tfrog", "1\t2\tnight1.flac\t1\towl")
    lost, _ = read_examples(table, recordings)
    assert isinstance(lost.source, Path)
    assert not lost.source.exists()


def test_the_folder_that_is_named_comes_before_the_path_in_the_table(recordings, tmp_path):
    cleaned = write(tmp_path / "cleaned" / "night1.flac")
    table = write(tmp_path / "selections.txt", SEQUENCE, f"1\t2\t{recordings / 'night1.flac'}\t1\tfrog")
    assert [each.source for each in read_examples(table, cleaned.parent)] == [cleaned]
    assert [each.source for each in read_examples(table)] == [recordings / "night1.flac"]


def test_tables_beside_their_recordings_are_read_and_the_folders_are_no_classes(recordings, capsys):
    write(recordings / "site1" / "20190318_191730.txt", "1\t2\tfrog")
    write(recordings / "site2" / "20190318_191730.Table.1.selections.txt", RAVEN, "1\tv\t3\t4\t0\towl")
    write(recordings / "README.txt", "what these are")
    write(recordings / "empty.txt")
    examples = read_examples(recordings)
    assert [(each.label, each.source) for each in examples] == [
        ("frog", recordings / "site1" / "20190318_191730.WAV"),
        ("owl", recordings / "site2" / "20190318_191730.WAV"),
    ]
    told = capsys.readouterr().err
    assert "are left out: 1, such as" in told
    assert "its folders are no classes" in told


def test_a_folder_of_class_folders_may_have_other_texts(recordings):
    write(recordings / "site1" / "readme.txt", "what these are")
    write(recordings / "site1" / "empty.txt")
    write(recordings / "site1" / "cells.csv", ",,,", ",,,")
    assert {each.label for each in read_examples(recordings)} == {"site1", "site2"}
    with pytest.raises(UsageError, match="goes with tables of examples"):
        read_examples(recordings, recordings)


def test_names_are_found_in_another_case_and_another_form_of_unicode(tmp_path):
    write(tmp_path / "recordings" / unicodedata.normalize("NFD", "höhle.wav"))
    write(tmp_path / "recordings" / "site1" / "NIGHT.WAV")
    table = write(tmp_path / "list.csv", "file,label", "höhle.wav,drip", "Site1\\night.wav,frog")
    assert all(
        isinstance(each.source, Path) and each.source.exists() for each in read_examples(table, tmp_path / "recordings")
    )


def test_of_names_that_differ_in_case_alone_the_one_that_is_spelt_so_is_meant(tmp_path):
    folder = tmp_path / "recordings"
    names = (unicodedata.normalize("NFD", "Höhle.wav"), "höhle.wav", "HÖHLE.wav")
    files = [write(folder / "site" / name) for name in names]
    given = unicodedata.normalize("NFC", str(files[0]))
    raven = write(tmp_path / "selections.txt", SEQUENCE, f"1\t2\t{given}\t1\tdrip")
    listed = write(tmp_path / "list.csv", "file,label", "site\\höhle.wav,drip")
    track = write(tmp_path / "tracks" / "site" / "HÖHLE.labels.txt", "1\t2\tdrip")
    for table, meant in zip((raven, listed, track.parents[1]), files, strict=True):
        assert [each.source for each in read_examples(table, folder)] == [meant]
    other = write(tmp_path / "other.txt", SEQUENCE, "1\t2\tD:\\card\\site\\hÖhle.wav\t1\tdrip")
    with pytest.raises(DataError, match=r"3 recordings in .* have this name"):
        read_examples(other, folder)


def test_a_parquet_table_is_read_as_the_same_csv_table(recordings, tmp_path):
    rows = {
        "File": ["night1.flac", "night1.flac", "night1.flac", "night1.flac"],
        "Start": [1.5, float("nan"), 2.0, 4.0],
        "End": [3.0, float("nan"), 3.0, 5.0],
        "Label": [" frog ", "owl", None, "NA"],
    }
    parquet.write_table(pyarrow.table(rows), tmp_path / "list.parquet")
    assert stretches(tmp_path / "list.parquet", recordings) == [
        ("frog", "night1.flac", 1.5, 3.0),
        ("owl", "night1.flac", 0.0, None),
    ]
    parquet.write_table(pyarrow.table(rows | {"Label": [["frog"]] * 4}), tmp_path / "list.parquet")
    with pytest.raises(DataError, match="got the columns file, start, end; wanted"):
        read_examples(tmp_path / "list.parquet", recordings)


def test_of_a_folder_only_tables_of_examples_are_read_and_only_the_columns_of_examples(recordings, monkeypatch):
    library = {"path": ["night1.flac"] * 2, "embedding_space": ["x" * 12] * 2, "recording_s": [9.0, 9.0]}
    parquet.write_table(pyarrow.table(library), recordings / "library.parquet")
    labelled = library | {"label": ["frog", ""], "start_s": [1.0, 2.0], "end_s": [2.0, 3.0], "warning": ["", ""]}
    parquet.write_table(pyarrow.table(labelled), recordings / "table.parquet")
    large = write(recordings / "rows.csv", "name,value", "a,1")
    read, real = [], parquet.read_table

    def read_table(path, columns):
        read.append((path.name, columns))
        return real(path, columns=columns)

    def read_text(path, real=Path.read_text, **how):
        assert path != large
        return real(path, **how)

    monkeypatch.setattr("serving.teaching.table_rows.parquet.read_table", read_table)
    monkeypatch.setattr(Path, "read_text", read_text)
    assert stretches(recordings) == [("frog", "night1.flac", 1.0, 2.0)]
    assert read == [("table.parquet", ["path", "label", "start_s", "end_s"])]


def test_birdnets_tables_are_read(recordings, tmp_path):
    table = write(
        recordings / "night1.BirdNET.selection.table.txt",
        "Selection\tView\tBegin Time (s)\tEnd Time (s)\tCommon Name",
        "1\tSpectrogram 1\t3\t6\tEurasian Wren",
    )
    assert stretches(table) == [("Eurasian Wren", "night1.flac", 3.0, 6.0)]
    table = write(
        tmp_path / "list.csv", "Start (s),End (s),Scientific name,Common name,File", "3.0,6.0,T. t.,Wren,night1.flac"
    )
    assert stretches(table, recordings) == [("Wren", "night1.flac", 3.0, 6.0)]


def test_a_table_in_another_encoding_is_refused_with_the_way_out(recordings):
    table = recordings / "night1.txt"
    table.write_text("1\t2\tfrog\n", encoding="utf-16")
    with pytest.raises(DataError, match="is not in UTF-8; save it in that encoding"):
        read_examples(table)


def test_a_folder_that_cannot_be_listed_is_refused(recordings, monkeypatch):
    listed = os.scandir

    def scandir(path):
        if Path(path).name == "site1":  # root may list every folder, so its mode would say nothing
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"site1: cannot be read \(Permission denied\)"):
        read_examples(recordings)


def test_a_path_that_is_too_long_is_refused(recordings, tmp_path):
    table = write(tmp_path / "list.csv", "file,label", f"{'a' * 5000}.wav,frog")
    with pytest.raises(DataError, match="cannot be read"):
        read_examples(table, recordings)
