"""Worker processes: the same rows in the same order, whatever becomes of a worker."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

import serving.bulk.processes
from serving.bulk.network_server import NetworkLink, NetworkServer, socket_pair
from serving.bulk.processes import FEWEST_WINDOWS, PROCESS_BYTES, choose_processes, group_names
from serving.bulk.worker_pool import work_in_processes
from serving.bulk.worker_process import WorkerProcess
from serving.embed import main
from serving.embedder import Embedder
from serving.errors import AudioError, BackendError, BundleError, UsageError
from serving.memory import free_memory
from tests.conftest import RATE_HZ, small_sound

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def recordings_of_many_lengths(tmp_path_factory) -> Path:
    """Thirty recordings of 0.2 to 9 s, and two files that are none."""
    root = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(2)
    for i in range(30):
        sound = small_sound(["tone", "noise", "clicks"][i % 3], rng, seconds=float(rng.uniform(0.2, 9)))
        soundfile.write(root / f"{i:02d}.wav", sound, RATE_HZ)
    (root / "05-empty.wav").touch()
    (root / "17-text.mp3").write_text("not audio")
    return root


@dataclass(frozen=True)
class NamesJob:
    """Each name with the process that got it; the names in `deadly` end it by a signal, `endings` times each."""

    folder: Path
    deadly: tuple[str, ...] = ()
    endings: int = 1000
    seconds: float = 0.0
    starts: int = 1000  # of workers; a further one ends at its start

    def open(self, network):
        if len(list(self.folder.glob("started.*"))) >= self.starts:
            os._exit(3)
        (self.folder / f"started.{os.getpid()}").touch()
        if "start" in self.deadly:
            os._exit(3)
        if "one start" in self.deadly:
            with suppress(FileExistsError):
                (self.folder / "one").symlink_to(str(os.getpid()))
                os._exit(3)
        if "bundle" in self.deadly:
            raise BundleError("the bundle has changed")
        return self.work

    def work(self, names):
        time.sleep(self.seconds)
        if "one start" in self.deadly:  # the others could do all the work before anyone sees that one has ended
            ended = Path("/proc") / (self.folder / "one").readlink()
            while ended.exists():
                time.sleep(0.01)
        for name in names:
            before = len(list(self.folder.glob(f"{name}.*")))
            if name in self.deadly and before < self.endings:
                (self.folder / f"{name}.{before}").touch()
                os.kill(os.getpid(), signal.SIGSEGV)
        return [(name, os.getpid()) for name in names]

    def lost(self, name, reason):
        return [(name, reason)]


GROUPS = [[f"{group}{letter}" for letter in "abc"] for group in range(20)]
NAMES = [name for group in GROUPS for name in group]


def run_names(job: NamesJob, processes: int = 2) -> list[tuple[str, object]]:
    return [each for result in work_in_processes(job, GROUPS, processes) for each in result]


def test_results_come_in_order_from_several_processes(tmp_path):
    done = run_names(NamesJob(tmp_path, seconds=0.1), 3)
    assert [name for name, _ in done] == NAMES
    assert len({process for _, process in done} - {os.getpid()}) > 1


def test_files_of_a_worker_that_ends_are_read_again_and_none_is_lost(tmp_path, capsys):
    done = run_names(NamesJob(tmp_path, ("3b", "11a"), endings=1))
    assert [name for name, _ in done] == NAMES
    assert all(isinstance(process, int) for _, process in done)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == ["warning: a worker process ended (SIGSEGV); its 3 files are read again, one by one"] * 2


def test_a_file_that_ends_two_workers_is_listed_and_the_others_are_done(tmp_path):
    done = dict(run_names(NamesJob(tmp_path, ("3b",))))
    assert list(done) == NAMES
    assert done.pop("3b") == "a process that read it ended twice (SIGSEGV)"
    assert all(isinstance(process, int) for process in done.values())


def test_an_error_of_a_workers_start_is_raised_here(tmp_path):
    with pytest.raises(BundleError, match="has changed"):
        run_names(NamesJob(tmp_path, ("bundle",)))


def test_a_worker_that_cannot_start_is_one_error_and_no_endless_loop(tmp_path):
    with pytest.raises(BackendError, match=r"exit code 3\); take processes=1"):
        run_names(NamesJob(tmp_path, ("start",)))


def test_a_process_that_the_system_cannot_start_leaves_no_open_file(tmp_path, monkeypatch):
    before = len(list(Path("/proc/self/fd").iterdir()))
    other, mine = socket_pair()
    link = NetworkLink(mine, os.memfd_create("windows"), 1)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError):
        WorkerProcess(NamesJob(tmp_path), link)
    other.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_worker_that_ends_at_its_start_does_not_stop_the_others(tmp_path, capsys):
    done = run_names(NamesJob(tmp_path, ("one start",)))
    assert [name for name, _ in done] == NAMES
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == ["warning: a worker process ended at its start (exit code 3); 1 go on"]


def test_a_worker_that_cannot_be_replaced_loses_no_file(tmp_path, capsys):
    """Its files are read again by the others: here the first worker ends with a file, and the next one at its start."""
    done = run_names(NamesJob(tmp_path, ("3b",), endings=1, seconds=0.2, starts=2))
    assert [name for name, _ in done] == NAMES
    assert "ended at its start" in capsys.readouterr().err


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_consumer_that_stops_leaves_no_process(tmp_path):
    results = work_in_processes(NamesJob(tmp_path, seconds=0.2), GROUPS, 2)
    workers = {process for _ in range(2) for _, process in next(results)}
    results.close()
    assert not [process for process in workers if is_alive(process)]


def test_workers_end_with_the_process_that_began_them(tmp_path):
    code = f"""
from pathlib import Path
from serving.bulk.worker_pool import work_in_processes
from tests.serving.bulk.test_processes import GROUPS, NamesJob
for result in work_in_processes(NamesJob(Path({str(tmp_path)!r}), seconds=60.0), GROUPS[:1], 1): pass
"""
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        children: list[int] = []
        while not children and time.monotonic() < deadline:
            children = [
                int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            ]
            time.sleep(0.05)
        process.kill()
    assert children
    deadline = time.monotonic() + 30
    while any(map(is_alive, children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, children))


def embed(bundle: Path, folder: Path, out: Path, *more: str) -> pyarrow.Table:
    assert main([str(bundle), str(folder), "--out", str(out), "--threads", "2", *more]) == 0
    return pyarrow.parquet.read_table(out)


def test_processes_write_the_rows_that_threads_write(bundle_folder, recordings_of_many_lengths, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.bulk.embed_folder.FILES_PER_PART", 8)
    by_threads = embed(bundle_folder, recordings_of_many_lengths, tmp_path / "threads.parquet", "--processes", "1")
    by_processes = embed(bundle_folder, recordings_of_many_lengths, tmp_path / "processes.parquet", "--processes", "2")
    numbers = [np.stack(table["embedding"].to_pylist()) for table in (by_threads, by_processes)]
    np.testing.assert_allclose(*numbers, rtol=0, atol=1e-5)  # other batches may round otherwise
    others = [table.drop_columns("embedding").to_pydict() for table in (by_threads, by_processes)]
    assert others[0] == others[1]
    assert (tmp_path / "threads.errors.csv").read_text() == (tmp_path / "processes.errors.csv").read_text()
    assert "17-text.mp3" in (tmp_path / "processes.errors.csv").read_text()


@pytest.fixture
def on_a_gpu(monkeypatch) -> list[NetworkServer]:
    """Networks count as if they were on a GPU. Returns the servers that are started."""
    started = []
    connect = NetworkServer.connect
    monkeypatch.setattr(serving.bulk.processes, "runs_on_gpu", lambda runtime: True)
    monkeypatch.setattr(NetworkServer, "connect", lambda server: started.append(server) or connect(server))
    return started


def test_with_a_gpu_one_network_serves_all_processes(bundle_folder, recordings_of_many_lengths, on_a_gpu):
    embedder = Embedder.load(bundle_folder, "onnxruntime", threads=2)
    paths = sorted(path for path in recordings_of_many_lengths.iterdir() if "-" not in path.name)
    by_processes = embedder.embed_files(paths, processes=2)
    assert len(on_a_gpu) == 2
    np.testing.assert_allclose(by_processes, embedder.embed_files(paths, processes=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("unsendable", [False, True])
def test_what_the_shared_network_raises_ends_the_job(
    bundle_folder, recordings_of_many_lengths, on_a_gpu, monkeypatch, unsendable
):
    embedder = Embedder.load(bundle_folder, "onnxruntime", threads=2)

    def out_of_memory(self, batch):
        if unsendable:
            raise type("LibraryError", (Exception,), {})("the GPU is out of memory")
        raise BackendError("the GPU is out of memory")

    monkeypatch.setattr(type(embedder.network), "__call__", out_of_memory)
    with pytest.raises(BackendError, match="out of memory"):
        embedder.embed_files(sorted(recordings_of_many_lengths.glob("0[01]*.wav")), processes=2)


def test_embed_files_in_processes_names_the_first_file_that_cannot_be_used(bundle_folder, recordings_of_many_lengths):
    embedder = Embedder.load(bundle_folder, threads=1)
    with pytest.raises(AudioError, match="05-empty"):
        embedder.embed_files(sorted(recordings_of_many_lengths.iterdir()), processes=2)


def test_an_embedder_that_load_has_not_made_stays_in_this_process(bundle_folder, recordings_of_many_lengths):
    loaded = Embedder.load(bundle_folder, threads=1)
    own = Embedder(loaded.bundle, loaded.runtime, "fp32", 1)
    paths = sorted(recordings_of_many_lengths.glob("0[01]*.wav"))
    np.testing.assert_array_equal(own.embed_files(paths, processes=2), loaded.embed_files(paths, processes=1))


@pytest.mark.parametrize(
    ("cores", "windows", "free", "wanted"),
    [
        (2, 10**6, 2**40, 1),
        (4, 10**6, 2**40, 1),
        (16, FEWEST_WINDOWS - 1, 2**40, 1),
        (16, FEWEST_WINDOWS, 2**40, 16),
        (16, 10**6, 5 * PROCESS_BYTES, 5),
        (16, 10**6, 0, 1),
    ],
)
def test_processes_are_as_many_as_cores_and_memory_allow_for_large_jobs(cores, windows, free, wanted):
    assert choose_processes(None, cores, windows, free) == wanted
    assert choose_processes(3, cores, windows, free) == 3


@pytest.mark.parametrize("asked", [0, -1, 1000])
def test_a_wrong_number_of_processes_is_one_line(bundle_folder, recordings_of_many_lengths, tmp_path, capsys, asked):
    with pytest.raises(UsageError, match=r"^processes: got"):
        choose_processes(asked, 2, 1)
    out = tmp_path / "rows.parquet"
    assert main([str(bundle_folder), str(recordings_of_many_lengths), "--out", str(out), f"--processes={asked}"]) == 2
    assert f"error: --processes: got {asked}; wanted 1 to 256" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_groups_keep_the_order_and_hold_about_as_many_windows():
    windows = {"a": 20, "b": 20, "c": 100, "d": 1, "e": 1}
    assert list(group_names(windows, windows.__getitem__)) == [["a", "b"], ["c"], ["d", "e"]]


def test_free_memory_is_no_more_than_the_control_group_leaves(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 64 kB\nMemAvailable: 48 kB\n")
    assert free_memory(tmp_path) == 48 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/container\n")
    pod = tmp_path / "sys/fs/cgroup/pod"
    (pod / "container").mkdir(parents=True)
    (pod / "container/memory.max").write_text("max\n")
    (pod / "memory.max").write_text("30000\n")
    (pod / "memory.current").write_text("10000\n")
    assert free_memory(tmp_path) == 20000
    assert free_memory(tmp_path / "nowhere") == 2**62
