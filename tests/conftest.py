"""What tests share: a small folder of recordings, the run and the bundles made from it, and the real recordings."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# NumPy and torch read these when they are imported, and so do the processes that tests start. By default the threads of
# OpenMP and OpenBLAS spin while they wait: beside another busy process a training of 6 CPU-seconds took 95, and the
# small products of the closed-form maps took three times as long as with one thread.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Worker processes that each use all cores wait for one another: with two threads for each of two workers on two cores
# ONNX Runtime took twice the time of one thread. So each worker, and what it starts, has cores of its own.
if WORKERS := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // WORKERS)
    first = share * int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw")) % len(cores)
    os.sched_setaffinity(0, cores[first : first + share])
    os.environ.setdefault("OMP_NUM_THREADS", str(share))

import numpy as np
import pytest
import soundfile
from filelock import FileLock

from serving.memory import trim_memory
from tests.absent_packages import environment_without
from tests.bundle_copies import copy_bundle

RATE_HZ = 16_000
# Files that take longest, in the order in which they begin, before all others: at the end no process runs one of them
# while the others wait. Those with a browser are not neighbours.
LONG_FILES = (
    "benchmarks/test_suite.py",
    "demo/test_demo_pictures.py",
    "training/evaluation/test_evaluate.py",
    "demo/test_demo_browser.py",
    "export/test_tensorrt.py",
    "training/test_training.py",
    "export/test_web.py",
    "training/test_whitening.py",
    "serving/text/test_text_model.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the long files begin first."""
    rank = {Path(__file__).parent / name: i for i, name in enumerate(LONG_FILES)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Say how a process that runs tests ended before its tests did: nothing else tells of a signal's number."""
    if error:
        status = node.gateway._io.popen.wait(timeout=30)
        print(f"\n{node.gateway.id} was lost: its exit status is {status}; below zero, a signal's number", flush=True)


def make_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that one of pytest's worker processes makes and all of them read.

    make   writes into the empty folder that it is given
    """
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if WORKERS else root) / f"shared-{name}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


def small_sound(kind: str, rng: np.random.Generator, seconds: float = 3.0) -> np.ndarray:
    """A random tone, noise or clicks: [n_samples] float32 at RATE_HZ."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    background = 1e-3 * rng.standard_normal(len(time))
    match kind:
        case "tone":
            sound = rng.uniform(0.2, 0.6) * np.sin(2 * np.pi * rng.uniform(400, 900) * time)
        case "noise":
            sound = rng.uniform(0.05, 0.3) * rng.standard_normal(len(time))
        case "clicks":
            period = int(rng.integers(2_000, 6_000))
            sound = np.where(np.arange(len(time)) % period < 20, rng.uniform(0.3, 0.9), 0.0)
        case _:
            raise ValueError(kind)
    return np.clip(sound + background, -1, 1).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def memory_given_back() -> Iterator[None]:
    """After each file, give the system the memory that was freed: the C library keeps it, 60 to 125 MB a file."""
    yield
    gc.collect()
    trim_memory()


@pytest.fixture(scope="session")
def without_torch() -> dict[str, str]:
    """The environment of a process in which torch is not installed."""
    return environment_without("torch", "torchaudio")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """A folder of class folders: three easy classes, eight clips each."""

    def make(folder: Path) -> None:
        rng = np.random.default_rng(0)
        for kind in ("tone", "noise", "clicks"):
            (folder / "recordings" / kind).mkdir(parents=True)
            for i in range(8):
                soundfile.write(folder / "recordings" / kind / f"{i}.wav", small_sound(kind, rng), RATE_HZ)

    return make_once(tmp_path_factory, "recordings", make) / "recordings"


@pytest.fixture(scope="session")
def run_folder(recordings, tmp_path_factory) -> Path:
    """A run of yamnet-compact on `recordings`, made by the command.

    It is trained until its classes lie apart, so that what INT8 blurs does not change a ranking. Its map is a
    projection onto the texts, in which `talking_bundle` can replace the texts by its own.
    """

    def make(folder: Path) -> None:
        from training.run import main

        arguments = f"--dataset folder --data-dir {recordings} --objective classes --map ridge --epochs 15"
        arguments += f" --batch-size 8 --network yamnet-compact --vocabulary 0 --cache-dir {folder / 'cache'}"
        arguments += f" --out {folder / 'run'}"
        assert main(arguments.split()) == 0

    return make_once(tmp_path_factory, "run", make) / "run"


def export_once(tmp_path_factory, run: Path, name: str, *flags: str) -> Path:
    """The bundle that the export command makes of a run."""

    def make(folder: Path) -> None:
        from export.onnx import main

        assert main([str(run), "--out", str(folder / "bundle"), "--no-text-model", *flags]) == 0

    return make_once(tmp_path_factory, name, make) / "bundle"


@pytest.fixture(scope="session")
def precise_bundle(run_folder, tmp_path_factory) -> Path:
    """The bundle of `run_folder` in every precision. It names its text model, whose files are in installed packages."""
    return export_once(tmp_path_factory, run_folder, "precise", "--precision", "fp16,int8")


@pytest.fixture(scope="session")
def log_mel_bundle(run_folder, tmp_path_factory) -> Path:
    """A bundle of `run_folder` whose models take log-mel, in FP32 and INT8."""
    return export_once(tmp_path_factory, run_folder, "log-mel", "--precision", "int8", "--input", "log-mel")


@pytest.fixture(scope="session")
def named_bundle(precise_bundle, tmp_path_factory) -> Path:
    """`precise_bundle` in FP32 only."""
    return copy_bundle(precise_bundle, tmp_path_factory.mktemp("named") / "bundle", models=["fp32"])


@pytest.fixture(scope="session")
def bundle_folder(precise_bundle, tmp_path_factory) -> Path:
    """`precise_bundle` in FP32 only and without a text model: it ranks its own classes alone, whatever is installed."""
    return copy_bundle(precise_bundle, tmp_path_factory.mktemp("bundle") / "bundle", models=["fp32"], text=False)


@pytest.fixture(scope="session")
def embedder(bundle_folder):
    """An Embedder over `bundle_folder`."""
    from serving.embedder import Embedder

    return Embedder.load(bundle_folder)


@pytest.fixture(scope="session")
def esc10() -> Path:
    """Real recordings in ESC-50's layout, or a skip with the reason."""
    place = Path(os.environ.get("UNHEARD_ESC10", "../shared/data/ESC-10"))
    if not (place / "meta" / "esc50.csv").is_file():
        pytest.skip(f"no real recordings: {place} is not there; set UNHEARD_ESC10 to a folder in ESC-50's layout")
    return place


@pytest.fixture(scope="session")
def esc50() -> Path:
    """Real recordings of ESC-50, all of its classes or some, or a skip with the reason."""
    place = Path(os.environ.get("UNHEARD_ESC50", "../shared/data/ESC-50"))
    if not (place / "meta" / "esc50.csv").is_file():
        pytest.skip(f"no real recordings: {place} is not there; set UNHEARD_ESC50 to a folder of ESC-50")
    return place


@pytest.fixture(scope="session")
def yamnet_tflite() -> Path:
    """Google's YAMNet as a TFLite file, or a skip with the reason."""
    path = Path(os.environ.get("UNHEARD_YAMNET", "../shared/data/yamnet-audioset.tflite"))
    if not path.is_file():
        pytest.skip(f"no published weights: {path} is not there; set UNHEARD_YAMNET to Google's yamnet.tflite")
    return path
