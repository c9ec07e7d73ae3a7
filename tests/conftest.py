"""What tests share: a small folder of recordings, the run and the bundle made from it, and the real recordings."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE_HZ = 16_000


def small_sound(kind: str, rng: np.random.Generator, seconds: float = 3.0) -> np.ndarray:
    """A tone, noise or clicks that differ from draw to draw: [n_samples] float32 at RATE_HZ."""
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


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """A folder of class folders: three easy classes, eight clips each."""
    root = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for kind in ("tone", "noise", "clicks"):
        (root / kind).mkdir()
        for i in range(8):
            soundfile.write(root / kind / f"{i}.wav", small_sound(kind, rng), RATE_HZ)
    return root


def train_compact(recordings: Path, root: Path, epochs: int) -> Path:
    """A run of yamnet-compact on a folder of class folders, made by the command, in root/run."""
    from training.run import main

    arguments = f"--dataset folder --data-dir {recordings} --objective classes --epochs {epochs} --batch-size 8"
    arguments += " --network yamnet-compact --vocabulary 0"
    assert main([*arguments.split(), "--out", str(root / "run"), "--cache-dir", str(root / "cache")]) == 0
    return root / "run"


@pytest.fixture(scope="session")
def run_folder(recordings, tmp_path_factory) -> Path:
    """A run of yamnet-compact on `recordings`, made by the command."""
    return train_compact(recordings, tmp_path_factory.mktemp("run"), epochs=6)


@pytest.fixture(scope="session")
def named_bundle(run_folder, tmp_path_factory) -> Path:
    """The bundle of `run_folder`, made by the command: it names its text model, and packages hold that."""
    from export.onnx import main

    out = tmp_path_factory.mktemp("named") / "bundle"
    assert main([str(run_folder), "--out", str(out), "--no-text-model"]) == 0
    return out


@pytest.fixture(scope="session")
def bundle_folder(named_bundle, tmp_path_factory) -> Path:
    """The same, but naming no text model: whatever is installed, it ranks its own classes alone."""
    from serving.bundle import open_bundle
    from serving.manifest import write_manifest

    out = Path(shutil.copytree(named_bundle, tmp_path_factory.mktemp("bundle") / "bundle"))
    shutil.rmtree(out / "text")
    write_manifest(out, replace(open_bundle(named_bundle).manifest, files={}))
    return out


@pytest.fixture(scope="session")
def settled_run(recordings, tmp_path_factory) -> Path:
    """A run like `run_folder`, trained until its classes lie apart: what INT8 blurs does not change a ranking then."""
    return train_compact(recordings, tmp_path_factory.mktemp("settled"), epochs=15)


@pytest.fixture(scope="session")
def precise_bundle(settled_run, tmp_path_factory) -> Path:
    """The bundle of `settled_run` in every precision, made by the command."""
    from export.onnx import main

    out = tmp_path_factory.mktemp("precise") / "bundle"
    assert main([str(settled_run), "--out", str(out), "--precision", "fp16,int8", "--no-text-model"]) == 0
    return out


@pytest.fixture(scope="session")
def log_mel_bundle(settled_run, tmp_path_factory) -> Path:
    """A bundle of `settled_run` whose models take log-mel, made by the command."""
    from export.onnx import main

    out = tmp_path_factory.mktemp("log-mel") / "bundle"
    arguments = ["--precision", "int8", "--input", "log-mel", "--no-text-model"]
    assert main([str(settled_run), "--out", str(out), *arguments]) == 0
    return out


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
