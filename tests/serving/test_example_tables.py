"""Tables of examples: those of Raven, Audacity and Parquet, also as `serving.label` writes them, and wrong ones."""

import shutil
from pathlib import Path

import pytest

from demo.bundle_choice import FROM_SCRATCH
from demo.examples import EXAMPLE_SOUNDS
from serving.errors import DataError, UsageError
from serving.label import main as label_main
from serving.teach import main
from serving.teaching.example_sources import read_examples

RAVEN = "Selection\tView\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tSpecies"


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
        ("night1.txt", [RAVEN.replace("Species", "Who"), "1\tv\t1\t2\t0\tfrog"], "named Annotation, Label or Species"),
        ("night1.txt", [RAVEN, "1\tv\t2\t1\t0\tfrog"], "row 2: starts at 2 s and ends at 1 s"),
        ("night1.txt", [RAVEN, "1\tv\t\t\t0\tfrog"], "row 2: has no time"),
        (
            "all.txt",
            [
                "Begin Time (s)\tEnd Time (s)\tBegin File\tAnnotation",
                "1\t2\tnight1.flac\tfrog",
                "400\t401\tnight2.flac\towl",
            ],
            "row 3: is of another recording than the rows before and says no File Offset (s)",
        ),
        ("20190318_191730.txt", ["1\t2\tfrog"], "line 1: 2 recordings of"),
        ("night1.txt", ["1\t1\tfrog"], "line 1: starts at 1 s and ends at 1 s"),
        ("night9.txt", ["1\t2\tfrog"], "none of its files is there"),
        ("night1.parquet", ["no Parquet"], "cannot be read as a table"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row(recordings, name, lines, reason):
    table = write(recordings.parent / name, *lines)
    with pytest.raises(DataError) as refused:
        read_examples(table, recordings)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_folder_of_tables_beside_a_recording_is_a_folder_of_classes(recordings):
    write(recordings / "readme.txt", "what these are")
    with pytest.raises(UsageError, match="is for tables"):
        read_examples(recordings, recordings)
