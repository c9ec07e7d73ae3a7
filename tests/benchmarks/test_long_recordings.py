"""The benchmark of long recordings makes its table, and what it compares is equal."""

import json

import pytest

from benchmarks.long_formats import FORMATS, write_recording
from benchmarks.long_recordings import COLUMNS, main
from demo.bundle_choice import SHIPPED
from serving.audio import read_audio


def test_a_long_recording_is_measured_beside_short_ones_and_whole_decoding(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.long_recordings.N_SHORT", 4)
    folder = tmp_path / "sounds"
    folder.mkdir()
    options = ["--hours", "0.2", "--formats", "flac", "--whole-minutes", "1", "--folder", str(folder)]
    assert main([str(SHIPPED), *options, "--out", str(tmp_path / "out")]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["hours"] == pytest.approx(0.2 / 8)
    # The windows and what is computed of them one by one are equal; the calls of the network hold the same windows.
    assert row["worst"] <= 1e-6
    assert row["peak_mb"] > 50
    assert row["hours_a_second"] > 0
    table = (tmp_path / "out" / "long-recordings.md").read_text().splitlines()
    assert table[0] == "| " + " | ".join(COLUMNS) + " |"
    assert table[2].startswith("| FLAC, 16 bit, 0.025 h | ")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".flac", ".m4a"])
@pytest.mark.parametrize("seconds", [8.3, 150.0])
def test_a_recording_is_as_long_as_its_row_says(tmp_path, suffix, seconds):
    """MP3 and OGG are written in whole minutes: of 150 s they have 120."""
    if suffix == ".m4a":
        pytest.importorskip("av", reason="not installed: the extra formats")
    (kind,) = (each for each in FORMATS if each.suffix == suffix)
    said = write_recording(kind, tmp_path / f"sound{suffix}", seconds)
    wave, rate_hz = read_audio(tmp_path / f"sound{suffix}")
    assert said == pytest.approx(len(wave) / rate_hz, abs=0.1)


@pytest.mark.parametrize(
    "options",
    [
        ("--hours", "0"),
        ("--hours", "nan"),
        ("--hours", "inf"),
        ("--whole-minutes", "-1"),
        ("--whole-minutes", "nan"),
        ("--formats", "wav,cassette"),
        ("--formats", ","),
    ],
)
def test_wrong_usage_is_one_line(tmp_path, capsys, options):
    assert main([str(SHIPPED), *options, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {options[0]}: got {options[1]}")
    assert "; wanted" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent"], "absent: no such bundle folder"),
        ([str(SHIPPED), "--backend", "fast"], "fast"),
        ([str(SHIPPED), "--formats", "m4a"], "--formats: m4a cannot be written here"),
    ],
)
def test_what_cannot_work_is_told_before_anything_is_written(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.setattr("benchmarks.long_recordings.find_spec", lambda name: None)
    monkeypatch.setattr("benchmarks.long_recordings.write_recording", lambda *_: pytest.fail("it wrote a recording"))
    formats = [] if "--formats" in words else ["--formats", "wav"]
    assert main([*words, *formats, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flag", "message"), [("--out", "cannot make this folder (Not a directory)"), ("--folder", "which is not there")]
)
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path, monkeypatch, capsys, flag, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main([str(SHIPPED), flag, "file/folder"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
