"""Bulk: every recording of a folder becomes rows, once each, whatever interrupts the run."""

import csv
import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from serving.audio import read_audio
from serving.bulk.embed_files import FileEmbeddings
from serving.bulk.file_facts import FileFacts
from serving.bulk.parquet_rows import FileOutcome, PartReader, RowMaker, write_part, write_rows
from serving.bulk.recordings_folder import audio_files
from serving.bulk.resumable_job import ResumableJob, begun_settings, open_job
from serving.embed import main
from serving.embedder import Embedder
from tests.conftest import RATE_HZ, small_sound
from tests.interrupted_jobs import interrupted_at

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Forty recordings in folders of folders, of 0.2 to 12 s, in three formats, and among them four that are none."""
    root = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(1)
    for i in range(40):
        folder = root / f"{'a b' if i % 2 else 'c'}" / f"{i % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        sound = small_sound(["tone", "noise", "clicks"][i % 3], rng, seconds=float(rng.uniform(0.2, 12)))
        soundfile.write(folder / f"{i:02d}.{('wav', 'flac', 'OGG')[i % 3]}", sound, RATE_HZ)
    (root / "c" / "1" / "empty.wav").touch()
    (root / "c" / "text.mp3").write_text("not audio")
    (root / "a b" / "cut.flac").write_bytes((root / "a b" / "1" / "01.flac").read_bytes()[:3000])
    soundfile.write(root / "long.wav", np.zeros(100 * 500), 500)  # 100 s
    (root / "notes.txt").write_text("no recording at all")
    return root


ERRORS = {"c/1/empty.wav", "c/text.mp3", "a b/cut.flac"}


def embed(bundle: Path, folder: Path, out: Path, *more: str) -> int:
    return main([str(bundle), str(folder), "--out", str(out), "--threads", "2", *more])


def read_errors(path: Path) -> dict[str, str]:
    with path.open(newline="") as file:
        return {row["path"]: row["error"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def by_clip(bundle_folder, many, tmp_path_factory) -> Path:
    """The rows of an uninterrupted run."""
    out = tmp_path_factory.mktemp("by-clip") / "rows.parquet"
    assert embed(bundle_folder, many, out) == 0
    return out


def test_there_is_a_row_for_each_clip_with_the_embedders_own_embedding(by_clip, many, bundle_folder):
    embedder = Embedder.load(bundle_folder)
    table = pyarrow.parquet.read_table(by_clip)
    paths = table["path"].to_pylist()
    assert paths == sorted(paths)
    assert set(paths) | ERRORS == {path.relative_to(many).as_posix() for path in many.rglob("*.[!t]*")}
    for row in table.slice(0, 12).to_pylist():
        wave, rate_hz = read_audio(many / row["path"])
        assert row["start_s"] == 0
        assert row["duration_s"] == len(wave) / rate_hz
        assert row["embedding_space"] == embedder.manifest.embedding_space
        np.testing.assert_allclose(row["embedding"], embedder.embed(wave, rate_hz), atol=1e-5)


def test_the_columns_are_what_they_are_said_to_be(by_clip):
    schema = pyarrow.parquet.read_schema(by_clip)
    assert schema.field("embedding").type == pyarrow.list_(pyarrow.float32(), 128)
    assert schema.names == [
        *("path", "start_s", "end_s", "duration_s", "padded", "embedding", "embedding_space", "warning"),
        *("level_dbfs", "recording_s", "recorded_at", "start_at", "end_at", "recorded_from"),
        *("file_size", "file_mtime_ns", "file_ctime_ns", "file_sha256"),
    ]


def test_files_that_cannot_be_used_are_listed_with_the_reasons(by_clip):
    errors = read_errors(by_clip.with_name("rows.errors.csv"))
    assert set(errors) == ERRORS
    assert "MP3" in errors["c/text.mp3"]
    assert all("\n" not in reason for reason in errors.values())


def test_nothing_but_the_two_files_is_left(by_clip):
    assert sorted(path.name for path in by_clip.parent.iterdir()) == ["rows.errors.csv", "rows.parquet"]


def test_there_is_a_row_for_each_window_and_their_mean_is_the_clips(bundle_folder, many, by_clip, tmp_path, capsys):
    out = tmp_path / "windows.parquet"
    assert embed(bundle_folder, many, out, "--per", "window") == 0
    clips = {row["path"]: row for row in pyarrow.parquet.read_table(by_clip).to_pylist()}
    windows = pyarrow.parquet.read_table(out).to_pylist()
    assert {row["path"] for row in windows} == set(clips)
    for path, clip in clips.items():
        mine = [row for row in windows if row["path"] == path]
        np.testing.assert_allclose([row["start_s"] for row in mine], np.arange(len(mine)) * 4.8)
        np.testing.assert_allclose(np.mean([row["embedding"] for row in mine], axis=0), clip["embedding"], atol=1e-5)
        # A window lasts no longer than its 77 040 samples, nor than what is left of the recording.
        for row in mine:
            assert row["duration_s"] == pytest.approx(min(4.815, clip["duration_s"] - row["start_s"]))
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["rows"] == len(windows)
    assert result["errors"] == len(ERRORS)


def test_a_recording_over_the_limit_is_listed(bundle_folder, many, tmp_path):
    out = tmp_path / "rows.parquet"
    assert embed(bundle_folder, many, out, "--max-seconds", "60") == 0
    assert "60 s" in read_errors(tmp_path / "rows.errors.csv")["long.wav"]
    assert "long.wav" not in pyarrow.parquet.read_table(out)["path"].to_pylist()


def test_a_killed_run_continues_without_a_lost_or_doubled_row(
    bundle_folder, many, by_clip, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("serving.bulk.embed_folder.FILES_PER_PART", 4)
    out = tmp_path / "rows.parquet"
    code = """
import sys, time
import serving.embed, serving.bulk.embed_folder, serving.bulk.resumable_job as resumable_job
serving.bulk.embed_folder.FILES_PER_PART = 4
save = resumable_job.ResumableJob.save
resumable_job.ResumableJob.save = lambda *given: (save(*given), time.sleep(0.2))[0]  # time to be killed
raise SystemExit(serving.embed.main(sys.argv[1:]))
"""
    arguments = [str(bundle_folder), str(many), "--out", str(out), "--threads", "2"]
    finished: list[int] = []
    for wanted in (1, 4, 7):  # killed three times, each time further on
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=ROOT, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 240
        while len(list(tmp_path.glob("rows.parquet.parts/[0-9]*.parquet"))) < wanted and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        finished.append(len(list(tmp_path.glob("rows.parquet.parts/[0-9]*.parquet"))))
        assert not out.exists()
    assert finished == sorted(set(finished)), "each run went on where the last one stopped"
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["files_done_before"] == 4 * finished[-1]
    assert pyarrow.parquet.read_table(out).equals(pyarrow.parquet.read_table(by_clip))
    assert read_errors(tmp_path / "rows.errors.csv") == read_errors(by_clip.with_name("rows.errors.csv"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.errors.csv", "rows.parquet"]


@pytest.fixture
def unfinished(bundle_folder, many, tmp_path, monkeypatch) -> Path:
    """The --out of a run that was interrupted when half of the parts were done."""
    monkeypatch.setattr("serving.bulk.embed_folder.FILES_PER_PART", 4)
    out = tmp_path / "rows.parquet"
    with interrupted_at(5):
        assert embed(bundle_folder, many, out) == 130
    assert len(list((tmp_path / "rows.parquet.parts").glob("[0-9]*.parquet"))) == 5
    return out


def test_an_interrupted_run_does_nothing_twice(unfinished, bundle_folder, many, by_clip, monkeypatch):
    decoded = []
    real = Embedder.open_recording
    monkeypatch.setattr(
        Embedder, "open_recording", lambda self, path, *rest: decoded.append(path) or real(self, path, *rest)
    )
    assert embed(bundle_folder, many, unfinished) == 0
    assert len(decoded) == len(list(audio_files(many))) - 20
    assert pyarrow.parquet.read_table(unfinished).equals(pyarrow.parquet.read_table(by_clip))


def test_a_limit_in_seconds_counts_seconds_whatever_the_rate_and_the_channels(bundle_folder, tmp_path):
    (tmp_path / "sounds").mkdir()
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, (192_000 * 6, 4))
    soundfile.write(tmp_path / "sounds" / "array.wav", sound, 192_000)
    assert embed(bundle_folder, tmp_path / "sounds", tmp_path / "out.parquet", "--max-seconds", "6") == 0
    assert embed(bundle_folder, tmp_path / "sounds", tmp_path / "other.parquet", "--max-seconds", "5") == 2
    assert "lasts more than 5 s, the most here; send a shorter recording" in (tmp_path / "other.errors.csv").read_text()


@pytest.mark.parametrize("more", [("--per", "window"), ("--backend", "onnxruntime"), ("--max-seconds", "60")])
def test_a_run_begun_with_other_options_is_not_continued(unfinished, bundle_folder, many, capsys, more):
    assert embed(bundle_folder, many, unfinished, *more) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "other settings" in error
    assert more[1] in error
    assert not unfinished.exists()


def test_a_run_of_another_folder_is_not_continued(unfinished, bundle_folder, recordings, capsys):
    assert embed(bundle_folder, recordings, unfinished) == 2
    assert "folder was" in capsys.readouterr().err


def test_overwrite_begins_an_unfinished_run_anew(unfinished, bundle_folder, recordings):
    assert embed(bundle_folder, recordings, unfinished, "--overwrite") == 0
    assert pyarrow.parquet.read_table(unfinished).num_rows == 24


def test_files_that_come_or_go_between_two_runs_change_nothing_that_is_done(
    bundle_folder, recordings, tmp_path, monkeypatch
):
    monkeypatch.setattr("serving.bulk.embed_folder.FILES_PER_PART", 4)
    folder, out = Path(shutil.copytree(recordings, tmp_path / "sounds")), tmp_path / "rows.parquet"
    with interrupted_at(2):
        assert embed(bundle_folder, folder, out) == 130
    shutil.copy(folder / "tone" / "0.wav", folder / "a-new-first.wav")
    (folder / "tone" / "7.wav").unlink()
    assert embed(bundle_folder, folder, out) == 0
    paths = pyarrow.parquet.read_table(out)["path"].to_pylist()
    assert paths == [f"{kind}/{i}.wav" for kind in ("clicks", "noise", "tone") for i in range(8)][:-1]
    assert set(read_errors(tmp_path / "rows.errors.csv")) == {"tone/7.wav"}


def test_two_processes_do_not_work_on_one_job(unfinished, bundle_folder, many, capsys):
    parts = unfinished.with_name("rows.parquet.parts")
    with open_job(parts, begun_settings(parts), lambda _: [], 4, anew=False):
        for more in ((), ("--overwrite",)):
            assert embed(bundle_folder, many, unfinished, *more) == 2
            assert "another process" in capsys.readouterr().err


def test_a_file_system_without_locks_is_no_other_process(unfinished, bundle_folder, many, monkeypatch):
    parts, numbers = unfinished.with_name("rows.parquet.parts"), [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]

    def flock(*given: object) -> None:
        raise OSError(numbers[0], os.strerror(numbers[0]))

    monkeypatch.setattr("fcntl.flock", flock)
    while len(numbers) > 1:
        with open_job(parts, begun_settings(parts), lambda _: [], 4, anew=False) as job:
            assert job.done_before.files
        numbers.pop(0)
    assert embed(bundle_folder, many, unfinished) == 0


def test_a_full_disk_is_one_line_and_what_is_done_is_kept(unfinished, bundle_folder, many, monkeypatch, capsys):
    def save(self, part, write):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(ResumableJob, "save", save)
        assert embed(bundle_folder, many, unfinished) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert len(list(unfinished.with_name("rows.parquet.parts").glob("[0-9]*.parquet"))) == 5


def test_what_is_there_is_not_replaced_unasked(by_clip, bundle_folder, recordings, tmp_path, capsys):
    for name in ("rows.parquet", "rows.errors.csv"):
        (tmp_path / name).write_text("mine")
        assert embed(bundle_folder, recordings, tmp_path / "rows.parquet") == 2
        assert "--overwrite" in capsys.readouterr().err
        assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{bundle}", "{empty}"], "holds no audio file"),
        (["{bundle}", "{empty}/nowhere"], "no such folder"),
        (["{bundle}", "{sounds}/tone/0.wav"], "/tone/0.wav: is a file; give its folder, {sounds}/tone"),
        (["{empty}", "{sounds}"], "manifest.json"),
        (["{bundle}", "{sounds}", "--max-seconds", "0"], "--max-seconds"),
        (["{bundle}", "{sounds}", "--threads", "0"], "error: --threads: got 0"),
        (["{bundle}", "{sounds}", "--workers", "0"], "error: --workers: got 0"),
        (["{bundle}", "{sounds}", "--workers=99999"], "error: --workers: got 99999"),
        (["{bundle}", "{sounds}", "--hop-seconds", "0"], "error: --hop-seconds: got 0"),
        (["{bundle}", "{sounds}", "--backend", "caffe"], "error: --backend: got caffe"),
        (["{bundle}", "{sounds}", "--precision", "int4"], "int4"),
        (["{bundle}", "{sounds}", "--per", "minute"], "minute"),
    ],
)
def test_wrong_usage_is_one_line_and_leaves_nothing(bundle_folder, recordings, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"bundle": bundle_folder, "empty": tmp_path / "empty", "sounds": recordings}
    filled = [argument.format(**places) for argument in arguments]
    try:
        code = main([*filled, "--out", str(tmp_path / "out" / "rows.parquet")])
    except SystemExit as stop:  # the parser's own
        code = stop.code
    assert code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert message.format(**places) in lines[-1]
    assert not list(tmp_path.rglob("*.parquet*"))


@pytest.mark.parametrize("out", ["", ".", os.fsdecode(b"rows\xff.parquet")])
def test_an_output_without_a_name_is_refused(bundle_folder, recordings, tmp_path, monkeypatch, capsys, out):
    monkeypatch.chdir(tmp_path)
    assert main([str(bundle_folder), str(recordings), "--out", out]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--out: got" in line
    assert not list(tmp_path.iterdir())


def test_names_come_in_the_order_of_the_whole_paths(tmp_path):
    names = ["a-b.wav", "a.wav", "a/b.wav", "a/c/d.wav", "a0.wav", "B.wav", "é.wav"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")  # a loop, if it were followed
    assert list(audio_files(tmp_path)) == sorted(names)


def test_a_name_that_is_not_text_is_listed(bundle_folder, recordings, tmp_path):
    source = (recordings / "tone" / "0.wav").read_bytes()
    (tmp_path / "sounds").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "sounds") + b"/\xff.wav")).write_bytes(source)
    (tmp_path / "sounds" / "good\n.wav").write_bytes(source)
    assert embed(bundle_folder, tmp_path / "sounds", tmp_path / "rows.parquet") == 0
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet")["path"].to_pylist() == ["good\n.wav"]
    assert "UTF-8" in next(iter(read_errors(tmp_path / "rows.errors.csv").values()))


def test_the_jobs_own_temporary_folder_is_no_hidden_folder_of_the_recordings(
    bundle_folder, recordings, tmp_path, capsys
):
    folder = Path(shutil.copytree(recordings / "tone", tmp_path / "sounds"))
    assert embed(bundle_folder, folder, folder / "rows.parquet") == 0
    assert "skipped" not in capsys.readouterr().err
    (folder / ".Trash").mkdir()
    assert embed(bundle_folder, folder, folder / "rows.parquet", "--overwrite") == 0
    assert "skipped 1 hidden files and system folders, such as .Trash" in capsys.readouterr().err


def test_a_pipe_is_listed_and_not_waited_for(bundle_folder, recordings, tmp_path):
    folder = Path(shutil.copytree(recordings, tmp_path / "[/odd]"))
    os.mkfifo(folder / "pipe.wav")
    assert main([str(bundle_folder), str(folder), "--out", str(tmp_path / "rows[/x].parquet")]) == 0
    assert "is a pipe" in read_errors(tmp_path / "rows[/x].errors.csv")["pipe.wav"]


def test_help_names_units_and_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for text in ("--per", "--ray", "--overwrite", "--update", "--workers", "--hop-seconds", "seconds"):
        assert text in out


def test_ray_gets_the_same_rows(bundle_folder, many, by_clip, tmp_path):
    """On a local Ray with two workers, in a process of its own."""
    code = """
import sys
import serving.embed
serving.bulk.embed_folder.FILES_PER_PART = 6
raise SystemExit(serving.embed.main(sys.argv[1:]))
"""
    out = tmp_path / "rows.parquet"
    arguments = [str(bundle_folder), str(many), "--out", str(out), "--threads", "2", "--ray", "local"]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.strip().splitlines()[-1])["errors"] == len(ERRORS)
    rows, expected = pyarrow.parquet.read_table(out), pyarrow.parquet.read_table(by_clip)
    assert rows.drop(["embedding"]).equals(expected.drop(["embedding"]))
    for row, wanted in zip(rows["embedding"].to_pylist(), expected["embedding"].to_pylist(), strict=True):
        np.testing.assert_allclose(row, wanted, atol=1e-5)
    assert read_errors(tmp_path / "rows.errors.csv") == read_errors(by_clip.with_name("rows.errors.csv"))


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:1", "no cluster answers"), ("ray://127.0.0.1:1", "HOST:PORT"), ("nowhere", "HOST:PORT")],
)
def test_a_ray_address_where_no_cluster_answers_is_one_line(
    bundle_folder, recordings, tmp_path, capsys, address, message
):
    assert embed(bundle_folder, recordings, tmp_path / "rows.parquet", "--ray", address) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_joining_the_parts_takes_no_more_memory_for_more_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.bulk.parquet_rows.GROUP_ROWS", 512)
    rows = RowMaker("clip", 128, "5" * 64)
    rng = np.random.default_rng(0)
    one = np.ones(1)
    facts = {"starts_s": 0 * one, "ends_s": one, "padded": one > 0, "levels_dbfs": 0 * one, "duration_s": 1.0}
    outcomes = [
        FileOutcome(f"{i}.wav", FileEmbeddings(rows=rng.standard_normal((1, 128), np.float32), **facts), FileFacts())
        for i in range(256)
    ]
    write_part(tmp_path / "part", rows, outcomes)

    def most_bytes(n_parts: int) -> int:
        """What Arrow holds at most when a part is about to be read."""
        held = []

        def parts():
            for _ in range(n_parts):
                held.append(pyarrow.total_allocated_bytes())
                yield tmp_path / "part"

        before = pyarrow.total_allocated_bytes()
        source = PartReader(parts(), tmp_path / "errors")
        assert write_rows(tmp_path / "all", source.batches(), rows.schema) == 256 * n_parts
        return max(held) - before

    assert most_bytes(100) <= most_bytes(10) + 50_000  # all rows of the 100 parts are 13 MB


def test_a_folder_of_unreadable_recordings_is_refused_and_the_reasons_stay(bundle_folder, tmp_path, capsys):
    folder, out = tmp_path / "bad", tmp_path / "out" / "rows.parquet"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"RIFF")
    assert embed(bundle_folder, folder, out) == 2
    assert "a.wav" in read_errors(out.with_name("rows.errors.csv"))
    said = f"error: {folder}: its only recording cannot be used; {out.with_name('rows.errors.csv')} gives the reasons"
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)
    assert [path.name for path in out.parent.iterdir()] == ["rows.errors.csv"]


def test_a_folder_that_cannot_be_listed_is_refused_with_the_reason(bundle_folder, tmp_path, monkeypatch, capsys):
    folder, scandir = tmp_path / "closed", os.scandir
    folder.mkdir()

    def refuse(path):
        if str(path) == str(folder):  # root may list every folder, so its mode would say nothing
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert embed(bundle_folder, folder, tmp_path / "out" / "rows.parquet") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {folder}: its files cannot be listed; mend its permissions, or give another folder"
    )
    assert not list((tmp_path / "out").glob("*"))


def test_a_slow_part_is_saved_in_pieces_and_continues_after_the_last_one(
    bundle_folder, many, by_clip, tmp_path, monkeypatch, capsys
):
    """Each reading of the clock is 11 s later, so a piece has at most three files."""
    seconds = itertools.count(0, 11)
    with monkeypatch.context() as patched:
        patched.setattr("serving.bulk.resumable_job.monotonic", lambda: next(seconds))
        with interrupted_at(3):
            assert embed(bundle_folder, many, tmp_path / "rows.parquet") == 130
    pieces = sorted(path.stem for path in (tmp_path / "rows.parquet.parts").glob("[0-9]*.parquet"))
    assert pieces == ["000000000-000000003", "000000003-000000006", "000000006-000000009"]
    capsys.readouterr()
    assert embed(bundle_folder, many, tmp_path / "rows.parquet") == 0
    printed = capsys.readouterr()
    assert "continuing: 9 of 44 files are done" in printed.err
    assert json.loads(printed.out.splitlines()[-1])["files_done_before"] == 9
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").equals(pyarrow.parquet.read_table(by_clip))
    assert read_errors(tmp_path / "rows.errors.csv") == read_errors(by_clip.with_name("rows.errors.csv"))


def test_pieces_of_worker_processes_give_the_same_rows(bundle_folder, many, by_clip, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.bulk.resumable_job.SECONDS_PER_PIECE", 0)
    with interrupted_at(1):
        assert embed(bundle_folder, many, tmp_path / "rows.parquet", "--processes", "2") == 130
    assert embed(bundle_folder, many, tmp_path / "rows.parquet", "--processes", "2") == 0
    assert pyarrow.parquet.read_table(tmp_path / "rows.parquet").equals(pyarrow.parquet.read_table(by_clip))


def test_an_interrupted_run_does_not_read_long_recordings_to_their_end(bundle_folder, tmp_path, monkeypatch):
    (tmp_path / "sounds").mkdir()
    for name, minutes in (("a", 10), ("b", 600), ("c", 600)):  # on a busy disk writing the first part takes seconds
        write_quiet(tmp_path / "sounds" / f"{name}.wav", minutes)
    after: list[int] = []  # numbers of windows, from Ctrl-C on
    real = Embedder.prepare

    def prepare(self: Embedder, windows: np.ndarray) -> np.ndarray:
        if after:
            after.append(len(windows))
        elif list(tmp_path.glob("rows.parquet.parts/[0-9]*.parquet")):  # the first recording is done
            after.append(0)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return real(self, windows)

    monkeypatch.setattr("serving.bulk.embed_folder.FILES_PER_PART", 1)
    monkeypatch.setattr(Embedder, "prepare", prepare)
    assert embed(bundle_folder, tmp_path / "sounds", tmp_path / "rows.parquet") == 130
    assert after
    assert sum(after) < 300  # of 15 000
    assert len(list(tmp_path.glob("rows.parquet.parts/[0-9]*.parquet"))) == 1


def write_quiet(path: Path, minutes: int) -> None:
    """A WAV of zeros, which take no room on the disk."""
    soundfile.write(path, np.zeros(RATE_HZ, np.int16), RATE_HZ)
    n_bytes = 60 * minutes * RATE_HZ * 2
    with path.open("r+b") as file:
        for place, size in ((4, 36 + n_bytes), (40, n_bytes)):
            file.seek(place)
            file.write(size.to_bytes(4, "little"))
        file.truncate(44 + n_bytes)


def test_a_run_that_is_terminated_before_its_first_part_leaves_nothing(bundle_folder, many, tmp_path):
    code = """
import sys, time
import serving.embed, serving.bulk.embed_folder as embed_folder
embed_folder.write_part = lambda *given: (print("writes", flush=True), time.sleep(60))
raise SystemExit(serving.embed.main(sys.argv[1:]))
"""
    arguments = [str(bundle_folder), str(many), "--out", str(tmp_path / "rows.parquet"), "--threads", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout.readline() == b"writes\n"
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())
