"""Recordings of any length and windows at any hop, in Python and in bulk."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from serving.audio import read_audio
from serving.bulk.resumable_job import ResumableJob
from serving.embed import main
from serving.errors import AudioError, DurationError, UsageError
from tests.conftest import RATE_HZ, small_sound


@pytest.fixture(scope="module")
def minute(tmp_path_factory) -> Path:
    """75 s of sound, 16 windows without an overlap: two blocks."""
    rng = np.random.default_rng(3)
    sounds = [small_sound(("tone", "noise", "clicks")[i % 3], rng, seconds=5.0) for i in range(15)]
    path = tmp_path_factory.mktemp("minute") / "minute.wav"
    soundfile.write(path, np.concatenate(sounds), RATE_HZ)
    return path


def embed(bundle: Path, folder: Path, out: Path, *more: str) -> int:
    return main([str(bundle), str(folder), "--out", str(out), "--threads", "2", *more])


@pytest.mark.parametrize("hop", [None, 1.0, 4.815])
def test_a_stream_gives_the_embeddings_of_the_whole_recording_with_their_times(embedder, minute, hop):
    wave, rate_hz = read_audio(minute)
    with embedder.stream(minute, hop_seconds=hop) as stream:
        blocks = list(stream)
    assert all(len(block.rows) == len(block) <= embedder.max_batch for block in blocks)
    rows = np.concatenate([block.rows for block in blocks])
    wanted = embedder.embed_windows(wave, rate_hz, hop_seconds=hop)
    assert rows.shape == wanted.shape
    # Windows may share a call of the runtime with others, which changes its sums in the last bits.
    np.testing.assert_allclose(rows, wanted, atol=1e-5)
    starts = np.concatenate([block.starts_s for block in blocks])
    np.testing.assert_allclose(starts, np.arange(len(rows)) * (hop or 4.8))
    ends = np.concatenate([block.ends_s for block in blocks])
    np.testing.assert_allclose(ends, np.minimum(starts + 4.815, 75.0))
    padded = np.concatenate([block.padded for block in blocks])
    np.testing.assert_array_equal(padded, starts + 4.815 > 75.0 + 1e-6)
    assert (stream.duration_s, stream.rate_hz, stream.channels, stream.warnings) == (75.0, RATE_HZ, 1, ())


def test_a_stream_that_is_left_closes_its_file_and_one_of_no_recording_names_it(embedder, minute, tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with embedder.stream(minute, hop_seconds=1.0) as stream:
        next(stream)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(AudioError, match=r"none\.wav: cannot be read"):
        next(embedder.stream(tmp_path / "none.wav"))
    with pytest.raises(DurationError, match=r"minute\.wav: lasts more than 60 s"):
        next(embedder.stream(minute, max_seconds=60))


def test_a_hop_changes_what_is_classified_and_a_wrong_one_is_one_error(embedder, minute):
    wave, rate_hz = read_audio(minute)
    labels = [label for label, _ in embedder.classify(wave, rate_hz)]
    ranking = embedder.classify(wave, rate_hz, labels, hop_seconds=1.0)
    rows = embedder.embed_windows(wave, rate_hz, hop_seconds=1.0)
    assert list(ranking) == embedder.choose(labels).rank(rows.mean(axis=0))
    for call in (embedder.classify, embedder.embed_windows):
        with pytest.raises(UsageError, match=r"hop_seconds: got 5; wanted more than 0 and at most a window, 4\.815 s"):
            call(wave, rate_hz, hop_seconds=5.0)
    with pytest.raises(UsageError, match="hop_seconds"):
        embedder.stream(minute, hop_seconds=0.0)


def test_bulk_with_a_hop_has_a_row_for_each_window_with_its_times(bundle_folder, embedder, minute, tmp_path):
    out = tmp_path / "rows.parquet"
    assert embed(bundle_folder, minute.parent, out, "--per", "window", "--hop-seconds", "1.5") == 0
    table = pyarrow.parquet.read_table(out)
    wanted = embedder.embed_windows(*read_audio(minute), hop_seconds=1.5)
    np.testing.assert_allclose(np.stack(table["embedding"].to_numpy()), wanted, atol=1e-5)
    starts, ends = table["start_s"].to_numpy(), table["end_s"].to_numpy()
    np.testing.assert_allclose(starts, 1.5 * np.arange(len(wanted)))
    np.testing.assert_allclose(table["duration_s"].to_numpy(), ends - starts)
    assert ends.max() == 75.0
    assert table["padded"].to_pylist() == [False] * (len(wanted) - 1) + [True]


@pytest.mark.parametrize("hop", ["0", "-1", "4.9", "nan"])
def test_a_wrong_hop_is_one_line_before_any_work(bundle_folder, minute, tmp_path, capsys, hop):
    assert embed(bundle_folder, minute.parent, tmp_path / "rows.parquet", "--hop-seconds", hop) == 2
    assert "error: --hop-seconds: got" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_run_begun_with_another_hop_is_not_continued(bundle_folder, minute, tmp_path, capsys, monkeypatch):
    def save(self, part, write):
        raise KeyboardInterrupt

    out = tmp_path / "rows.parquet"
    with monkeypatch.context() as patched:
        patched.setattr(ResumableJob, "save", save)
        patched.setattr(ResumableJob, "remove", lambda self: None)
        assert embed(bundle_folder, minute.parent, out, "--hop-seconds", "2") == 130
    assert embed(bundle_folder, minute.parent, out) == 2
    assert "hop seconds was 2.0, now None" in capsys.readouterr().err


def test_a_card_of_a_recorder_gives_what_can_be_read_and_lists_the_rest_with_its_time(
    bundle_folder, minute, tmp_path, capsys
):
    """Hidden twins of macOS, a system folder, a file that breaks off, one that is empty, and one of zeros."""
    card = tmp_path / "card"
    (card / "System Volume Information").mkdir(parents=True)
    (card / "System Volume Information" / "log.wav").write_bytes(b"system")
    (card / "DATA").mkdir()
    (card / "DATA" / "._whole.wav").write_bytes(b"Mac")
    (card / "DATA" / "whole.wav").write_bytes(minute.read_bytes())
    (card / "DATA" / "cut.wav").write_bytes(minute.read_bytes()[: minute.stat().st_size // 2])
    (card / "DATA" / "empty.wav").touch()
    soundfile.write(card / "DATA" / "zeros.flac", np.zeros(120 * 8_000), 8_000)
    out = tmp_path / "rows.parquet"
    assert embed(bundle_folder, card, out, "--per", "window") == 0
    rows = pyarrow.parquet.read_table(out).to_pylist()
    assert {row["path"] for row in rows} == {"DATA/whole.wav", "DATA/cut.wav", "DATA/zeros.flac"}
    assert sum(row["path"] == "DATA/zeros.flac" for row in rows) == 25
    assert max(row["end_s"] for row in rows if row["path"] == "DATA/cut.wav") <= 37.5
    with (tmp_path / "rows.errors.csv").open(newline="") as file:
        listed = {row["path"]: row for row in csv.DictReader(file)}
    assert {path: row["embedded"] for path, row in listed.items()} == {
        "DATA/cut.wav": "in part",
        "DATA/empty.wav": "no",
    }
    assert "the sound that was read lasts 37.5 s" in listed["DATA/cut.wav"]["error"]
    printed = capsys.readouterr()
    assert "skipped 2 hidden files and system folders" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["errors"] == 1


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 70 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=70k", "tmpfs", str(folder)]
    done = subprocess.run(line, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no small disk: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


ONE_FILE_PER_PART = """
import sys
from serving.bulk import embed_folder

embed_folder.FILES_PER_PART = 1
from serving.embed import main
raise SystemExit(main(sys.argv[1:]))
"""


def test_a_full_disk_is_one_line_and_the_same_command_goes_on_with_room(bundle_folder, minute, tmp_path, small_disk):
    """Each of the ten parts is 15 kB, so that some of them fit on the disk."""
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(10):
        (folder / f"{i:02d}.wav").symlink_to(minute)
    out = small_disk / "rows.parquet"
    flags = [str(bundle_folder), str(folder), "--out", str(out), "--per", "window"]
    command = [sys.executable, "-c", ONE_FILE_PER_PART, *flags]
    full = subprocess.run(command, capture_output=True, text=True, check=False)
    assert full.returncode == 2, full.stderr
    assert "No space left on device" in full.stderr.strip().splitlines()[-1]
    done = len(list((small_disk / "rows.parquet.parts").glob("[0-9]*.parquet")))
    assert 0 < done < 10
    assert not out.exists()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    result = json.loads(again.stdout.splitlines()[-1])
    assert result["files_done_before"] == done
    assert result["rows"] == pyarrow.parquet.read_table(out).num_rows == 10 * 16
