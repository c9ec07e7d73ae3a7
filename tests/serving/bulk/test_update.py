"""`serving.embed --update`: a finished file is brought up to date, and nothing is computed twice."""

import csv
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from demo.bundle_choice import FROM_SCRATCH
from serving.bulk.file_facts import FileStamp, is_unchanged, stamp_of
from serving.embed import main
from serving.embedder import Embedder
from tests.conftest import RATE_HZ, small_sound
from tests.interrupted_jobs import interrupted_at


@pytest.fixture
def folder(recordings, tmp_path) -> Path:
    """A folder of 24 recordings of its own."""
    return Path(shutil.copytree(recordings, tmp_path / "sounds"))


@pytest.fixture
def out(bundle_folder, folder, tmp_path) -> Path:
    """The finished file of the folder."""
    assert embed(bundle_folder, folder, tmp_path / "rows.parquet") == 0
    return tmp_path / "rows.parquet"


def embed(bundle: Path, folder: Path, out: Path, *more: str) -> int:
    return main([str(bundle), str(folder), "--out", str(out), "--threads", "2", *more])


@pytest.fixture
def opened(monkeypatch) -> list[str]:
    """The names of the recordings that are decoded."""
    names: list[str] = []
    real = Embedder.open_recording
    monkeypatch.setattr(
        Embedder, "open_recording", lambda self, path, *rest: names.append(path.name) or real(self, path, *rest)
    )
    return names


def write_tone(path: Path, seed: int) -> None:
    soundfile.write(path, small_sound("tone", np.random.default_rng(seed)), RATE_HZ)


def errors_of(folder: Path) -> list[tuple[str, ...]]:
    """The lines of the CSV file of errors."""
    with (folder / "rows.errors.csv").open(newline="") as file:
        return [tuple(row.values()) for row in csv.DictReader(file)]


def identity(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written."""
    now = path.stat()
    return now.st_ino, now.st_mtime_ns, now.st_ctime_ns


def rows_of(path: Path) -> dict[str, dict]:
    return {row["path"]: row for row in pyarrow.parquet.read_table(path).to_pylist()}


def test_new_files_are_added_changed_ones_renewed_and_missing_ones_reported(
    out, folder, bundle_folder, tmp_path, opened, capsys
):
    before = rows_of(out)
    write_tone(folder / "a.wav", 100)
    write_tone(folder / "tone" / "0.wav", 101)
    (folder / "tone" / "7.wav").unlink()
    assert embed(bundle_folder, folder, out, "--update") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert sorted(opened) == ["0.wav", "a.wav"]
    assert (result["rows"], result["kept"], result["missing"], result["files"]) == (25, 23, 1, 25)
    after = rows_of(out)
    assert list(after) == sorted({*before, "a.wav"})
    for path in set(before) - {"tone/0.wav"}:
        assert after[path] == before[path]
    assert after["tone/0.wav"]["embedding"] != before["tone/0.wav"]["embedding"]
    with (tmp_path / "rows.errors.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == ["tone/7.wav"]
    # The same as if all had been embedded at once, but for the recording that is gone.
    assert embed(bundle_folder, folder, tmp_path / "anew.parquet") == 0
    anew = rows_of(tmp_path / "anew.parquet")
    for path, row in anew.items():
        np.testing.assert_allclose(row["embedding"], after[path]["embedding"], atol=1e-5)


def test_an_update_without_a_change_computes_nothing_and_leaves_the_file(
    out, folder, bundle_folder, tmp_path, opened, capsys
):
    (folder / "cut.wav").write_bytes(b"RIFF")  # is tried each time
    (folder / "tone" / "7.wav").unlink()
    before = identity(out)
    capsys.readouterr()
    assert embed(bundle_folder, folder, tmp_path / "other" / "rows.parquet") == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    opened.clear()
    for _ in range(2):
        assert embed(bundle_folder, folder, out, "--update") == 0
        result = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert list(result) == list(first)
        assert (result["rows"], result["kept"], result["missing"], result["errors"]) == (24, 24, 1, 1)
        assert [row[::2] for row in errors_of(tmp_path)] == [("cut.wav", "no"), ("tone/7.wav", "yes")]
    assert opened == ["cut.wav"] * 2
    assert identity(out) == before
    assert not out.with_name("rows.parquet.parts").exists()


def test_an_update_that_only_drops_rows_writes_the_file(out, folder, bundle_folder):
    (folder / "tone" / "0.wav").write_bytes(b"RIFF")  # can no longer be used
    assert embed(bundle_folder, folder, out, "--update") == 0
    assert len(rows_of(out)) == 23
    assert "tone/0.wav" not in rows_of(out)


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """The names of the recordings that are read for their hashes. The times of files that were just written count."""
    names: list[str] = []
    real = stamp_of
    monkeypatch.setattr("serving.bulk.file_facts.SURE_NS", 0)
    monkeypatch.setattr("serving.bulk.file_facts.stamp_of", lambda path: names.append(path.name) or real(path))
    return names


def test_the_new_times_of_files_that_were_touched_or_copied_are_written_once(
    bundle_folder, folder, out, opened, hashed
):
    before = pyarrow.parquet.read_table(out)
    (folder / "tone" / "0.wav").touch()
    shutil.copyfile(folder / "noise" / "1.wav", folder / "copy")
    (folder / "copy").replace(folder / "noise" / "1.wav")
    assert embed(bundle_folder, folder, out, "--update") == 0
    assert (opened, sorted(hashed)) == ([], ["0.wav", "1.wav"])
    after = rows_of(out)
    for path in ("tone/0.wav", "noise/1.wav"):
        now = (folder / path).stat()
        assert (after[path]["file_mtime_ns"], after[path]["file_ctime_ns"]) == (now.st_mtime_ns, now.st_ctime_ns)
    times = ["file_mtime_ns", "file_ctime_ns"]
    assert pyarrow.parquet.read_table(out).drop_columns(times).equals(before.drop_columns(times))
    hashed.clear()
    written = identity(out)
    assert embed(bundle_folder, folder, out, "--update") == 0
    assert hashed == []
    assert identity(out) == written


def test_an_update_that_goes_on_still_knows_the_new_times(unfinished_update, folder, bundle_folder):
    """One recording was touched after it was embedded, before the update that was interrupted."""
    assert embed(bundle_folder, folder, unfinished_update, "--update") == 0
    row = rows_of(unfinished_update)["tone/0.wav"]
    now = (folder / "tone" / "0.wav").stat()
    assert (row["file_mtime_ns"], row["file_ctime_ns"]) == (now.st_mtime_ns, now.st_ctime_ns)


def test_a_changed_file_of_the_same_size_and_time_is_renewed(out, folder, bundle_folder, opened):
    path = folder / "noise" / "3.wav"
    times = path.stat()
    write_tone(path, 102)
    assert path.stat().st_size == times.st_size
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert embed(bundle_folder, folder, out, "--update") == 0
    assert opened == ["3.wav"]


def test_times_alone_decide_only_if_they_are_old_enough(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"1234")
    stamp = stamp_of(path)
    lying = FileStamp(stamp.size, stamp.mtime_ns, stamp.ctime_ns, "0" * 64)  # another content in the same tick
    taken = max(stamp.mtime_ns, stamp.ctime_ns)
    assert is_unchanged(path, stamp, taken)
    assert not is_unchanged(path, lying, taken + 1_000_000_000)
    assert is_unchanged(path, lying, taken + 3_000_000_000)
    assert not is_unchanged(path, FileStamp(stamp.size, stamp.mtime_ns, stamp.ctime_ns, ""), taken + 3_000_000_000)


def test_what_could_not_be_read_is_tried_again(bundle_folder, folder, tmp_path, opened):
    (folder / "late.wav").touch()
    out = tmp_path / "rows.parquet"
    assert embed(bundle_folder, folder, out, "--update") == 0  # there is no file yet: as without --update
    opened.clear()
    write_tone(folder / "late.wav", 103)
    assert embed(bundle_folder, folder, out, "--update") == 0
    assert opened == ["late.wav"]
    assert (tmp_path / "rows.errors.csv").read_text().splitlines() == ["path,error,embedded"]


def test_recordings_of_a_folder_that_cannot_be_read_keep_their_rows(
    out, folder, bundle_folder, tmp_path, monkeypatch, capsys
):
    """Root may read every folder, so its mode would say nothing."""
    before = rows_of(out)
    closed = folder / "tone"
    scandir, stat = os.scandir, os.stat

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(
        os, "scandir", lambda path: refuse(path) if str(path).rstrip("/") == str(closed) else scandir(path)
    )
    monkeypatch.setattr(
        Path,
        "stat",
        lambda path, **how: refuse(path) if closed in path.parents else stat(path, **how),
    )
    assert embed(bundle_folder, folder, out, "--update") == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out.splitlines()[-1])
    assert (result["rows"], result["kept"], result["missing"], result["errors"]) == (24, 24, 0, 1)
    assert rows_of(out) == before
    (line,) = [line for line in printed.err.splitlines() if "cannot be reached" in line]
    assert line == (
        "warning: recordings that cannot be reached (Permission denied), so their rows were kept as they are: 8, such "
        f"as {closed / '0.wav'}"
    )
    with (tmp_path / "rows.errors.csv").open(newline="") as file:
        listed = {row["path"]: (row["error"], row["embedded"]) for row in csv.DictReader(file)}
    assert listed.pop("tone/")[1] == "no"
    assert listed == {
        f"tone/{i}.wav": ("cannot be reached (Permission denied); its rows were kept", "yes") for i in range(8)
    }


def test_an_error_of_another_file_names_that_file(out, folder, bundle_folder, monkeypatch, capsys):
    other = folder / "tone" / "0.wav"

    def note_kept(*_):
        raise OSError(errno.EIO, "Input/output error", str(other))

    monkeypatch.setattr("serving.bulk.embed_folder.note_kept", note_kept)
    assert embed(bundle_folder, folder, out, "--update") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        f"error: {other}: cannot be used (Input/output error); finished parts are kept: correct this and give the same "
        "command again"
    )


def test_an_interrupted_update_goes_on_and_the_old_file_stays_until_then(
    out, folder, bundle_folder, monkeypatch, opened
):
    monkeypatch.setattr("serving.bulk.embed_folder.FILES_PER_PART", 2)
    before = pyarrow.parquet.read_table(out)
    for i in range(6):
        write_tone(folder / f"new-{i}.wav", 200 + i)
    with interrupted_at(2):
        assert embed(bundle_folder, folder, out, "--update") == 130
    assert pyarrow.parquet.read_table(out).equals(before)
    opened.clear()
    assert embed(bundle_folder, folder, out, "--update") == 0
    assert sorted(opened) == ["new-4.wav", "new-5.wav"]
    assert len(rows_of(out)) == 30


@pytest.fixture
def unfinished_update(out, folder, bundle_folder) -> Path:
    """The finished file of the folder, an old recording touched, and an update with one of two new ones embedded."""
    for i in range(2):
        write_tone(folder / f"new-{i}.wav", 300 + i)
    (folder / "tone" / "0.wav").touch()
    with interrupted_at(1, files_per_part=1):
        assert embed(bundle_folder, folder, out, "--update") == 130
    return out


def refused(code: int, capsys) -> str:
    """The only line of a refusal."""
    assert code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(("flag", "files_embedded"), [("--update", 1), ("--overwrite", 26)])
def test_an_interrupted_update_is_not_continued_without_the_flag(
    unfinished_update, folder, bundle_folder, opened, capsys, flag, files_embedded
):
    before = unfinished_update.read_bytes()
    capsys.readouterr()
    line = refused(embed(bundle_folder, folder, unfinished_update), capsys)
    assert "an unfinished --update of" in line
    assert "give --update to go on with it, or --overwrite to begin anew" in line
    assert unfinished_update.read_bytes() == before
    opened.clear()
    assert embed(bundle_folder, folder, unfinished_update, flag) == 0
    assert len(opened) == files_embedded
    assert len(rows_of(unfinished_update)) == 26


def test_an_interrupted_update_of_a_file_that_is_gone_is_refused(unfinished_update, folder, bundle_folder, capsys):
    unfinished_update.unlink()
    capsys.readouterr()
    line = refused(embed(bundle_folder, folder, unfinished_update, "--update"), capsys)
    assert "no longer there" in line
    assert embed(bundle_folder, folder, unfinished_update, "--overwrite") == 0
    assert len(rows_of(unfinished_update)) == 26


def test_an_interrupted_update_of_an_earlier_file_is_refused(
    unfinished_update, folder, bundle_folder, tmp_path, capsys
):
    assert embed(bundle_folder, folder, tmp_path / "other.parquet") == 0
    (tmp_path / "other.parquet").replace(unfinished_update)
    capsys.readouterr()
    line = refused(embed(bundle_folder, folder, unfinished_update, "--update"), capsys)
    assert "of an earlier rows.parquet; remove this folder" in line
    assert len(rows_of(unfinished_update)) == 26


def test_a_job_begun_without_update_is_not_continued_with_it(out, folder, bundle_folder, capsys):
    with interrupted_at(1, files_per_part=20):
        assert embed(bundle_folder, folder, out, "--overwrite") == 130
    capsys.readouterr()
    line = refused(embed(bundle_folder, folder, out, "--update"), capsys)
    assert "an unfinished job without --update" in line
    assert embed(bundle_folder, folder, out) == 0
    assert len(rows_of(out)) == 24


@pytest.mark.parametrize("more", [("--per", "window"), ("--hop-seconds", "2"), ("--max-seconds", "9")])
def test_a_file_made_with_other_settings_is_refused(out, folder, bundle_folder, capsys, more):
    before = out.read_bytes()
    assert embed(bundle_folder, folder, out, "--update", *more) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert "was made with other settings" in line
    assert more[1] in line
    assert out.read_bytes() == before


def test_rows_of_another_bundle_are_named_as_such_by_twelve_digits(out, folder, tmp_path, capsys):
    was = pyarrow.parquet.read_table(out)["embedding_space"][0].as_py()[:12]
    now = json.loads((FROM_SCRATCH / "manifest.json").read_text())["embedding_space"][:12]
    assert embed(FROM_SCRATCH, folder, out, "--update") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line == (
        f"error: {out}: was made with another bundle (embedding space was {was}, now {now}); give those again, or give "
        "another --out, or --overwrite to begin anew"
    )


def test_a_file_of_another_folder_model_or_kind_is_refused(
    out, folder, recordings, bundle_folder, precise_bundle, tmp_path, capsys
):
    assert embed(bundle_folder, recordings, out, "--update") == 2
    assert "folder was" in capsys.readouterr().err
    assert embed(precise_bundle, folder, out, "--update", "--precision", "int8") == 2
    assert "model was" in capsys.readouterr().err
    (tmp_path / "other.parquet").write_text("no Parquet")
    assert embed(bundle_folder, folder, tmp_path / "other.parquet", "--update") == 2
    assert "cannot be read" in capsys.readouterr().err
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a.wav"]}), tmp_path / "old.parquet")
    assert embed(bundle_folder, folder, tmp_path / "old.parquet", "--update") == 2
    assert "not from this version" in capsys.readouterr().err
    assert embed(bundle_folder, folder, out, "--update", "--overwrite") == 2
    assert "--overwrite" in capsys.readouterr().err
