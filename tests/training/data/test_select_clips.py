"""training.data.select_clips: only clips with the chosen licences, each once, with their authors."""

import csv
import json

import pytest

from training.data.clips import load_clips
from training.data.select_clips import main, read_licences

LICENCES = """# ESC-50
- [1-1-A.ogg]: clip derived from Bark (loud).wav (http://example.org/1/) by Ann [CC0]
- [1-2-A.ogg]:  clip derived from Rain [take 2] (http://example.org/2/) by Bob B. [CC-BY]
- [2-3-A.ogg]: clip derived from More rain (http://example.org/3/) by Cid [CC-BY-NC]
- [2-4-A.ogg]: clip derived from Dog (http://example.org/4/) by Dan [CC-BY]
"""


def write_data_set(folder, names, content):
    (folder / "audio").mkdir(parents=True)
    (folder / "meta").mkdir()
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "fold", "target", "category", "esc10", "src_file", "take"])
        for name in names:
            fold, source, take, target = name.split(".")[0].split("-")
            writer.writerow([name, fold, target, {"0": "dog", "10": "rain"}[target], "True", source, take])
            (folder / "audio" / name).write_text(content)
    return folder


@pytest.fixture
def two_data_sets(tmp_path):
    (tmp_path / "LICENSE").write_text(LICENCES)
    first = write_data_set(tmp_path / "first", ["1-1-A-0.ogg"], "first")
    second = write_data_set(tmp_path / "second", ["1-1-A-0.flac", "1-2-A-10.flac", "2-3-A-10.flac", "2-9-A-0.flac"], "")
    return [str(first), str(second), "--licences", str(tmp_path / "LICENSE"), "--out", str(tmp_path / "free")]


def test_clips_with_free_licences_are_copied_once_from_the_first_folder_that_has_them(two_data_sets, tmp_path, capsys):
    assert main(two_data_sets) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["left_out"] == {"CC-BY-NC": 1, "unknown": 1}
    table = load_clips("ESC-50", tmp_path / "free")
    assert [clip.path.name for clip in table.clips] == ["1-1-A-0.ogg", "1-2-A-10.flac"]
    assert (tmp_path / "free" / "audio" / "1-1-A-0.ogg").read_text() == "first"
    assert table.license == "each recording is CC0 or CC-BY; the collection is CC BY-NC 3.0 (ESC-50)"
    authors = (tmp_path / "free" / "ATTRIBUTION.txt").read_text()
    assert "- [1-2-A-10.flac]: from Rain [take 2] (http://example.org/2/) by Bob B. [CC-BY]" in authors
    assert "Cid" not in authors


def test_a_licence_that_no_clip_has_is_refused_before_anything_is_written(two_data_sets, tmp_path, capsys):
    assert main([*two_data_sets, "--keep", "CC BY"]) == 2
    assert "--keep: got CC BY;" in capsys.readouterr().err
    assert not (tmp_path / "free").exists()


def test_a_target_that_is_no_number_is_named_with_its_row(two_data_sets, tmp_path, capsys):
    table = tmp_path / "second" / "meta" / "esc50.csv"
    table.write_text(table.read_text().replace("1-2-A-10.flac,1,10,", "1-2-A-10.flac,1,ten,"))
    assert main(two_data_sets) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{table}, row 3: target is 'ten'; wanted a whole number" in error
    assert not (tmp_path / "free").exists()


def test_licences_are_read_from_a_csv_file_too(tmp_path):
    path = tmp_path / "licences.csv"
    path.write_text("clip,licence,author,title,url\n1-1-A,CC0,Ann,Bark,http://example.org/1/\n")
    assert read_licences(path)["1-1-A"].author == "Ann"
