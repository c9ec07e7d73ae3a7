"""The benchmark of long recordings makes its table, and what it compares is equal."""

import json

import pytest

from benchmarks.long_recordings import COLUMNS, main
from demo.bundle_choice import SHIPPED


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


@pytest.mark.parametrize("options", [("--hours", "0"), ("--whole-minutes", "-1"), ("--formats", "wav,cassette")])
def test_wrong_usage_is_one_line(tmp_path, capsys, options):
    assert main([str(SHIPPED), *options, "--out", str(tmp_path / "out")]) == 2
    assert "wanted" in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("flag", "message"), [("--out", "cannot make this folder (Not a directory)"), ("--folder", "which is not there")]
)
def test_a_folder_that_cannot_be_used_is_one_line(tmp_path, monkeypatch, capsys, flag, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert main([str(SHIPPED), flag, "file/folder"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
