"""Which runtime runs a bundle: `auto` takes the fastest that is installed and right; a wrong one is never served."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from demo.bundle_choice import FROM_SCRATCH
from export.parity.comparison import BOUNDS
from serving.backends import backend_choice
from serving.backends.backend_choice import open_backend
from serving.backends.openvino import openvino_core
from serving.backends.probe_check import PROMISED_COSINES, TOLERANCES, probe_difference
from serving.bundle.bundle import open_bundle
from serving.cosine import row_cosines
from serving.embedder import Embedder
from serving.errors import BackendError, BundleError, EngineError, UsageError
from serving.log_mel import LogMelConfig
from serving.probes import probe_windows
from tests.absent_packages import environment_without

ON_CPU = ("onnxruntime", "openvino")
ROOT = Path(__file__).parents[3]


class Shifted:
    """A runtime whose embeddings are all a little longer, or NaN, or too few."""

    name, version, providers = "openvino", "0", ["CPU"]

    def __init__(self, inner, fault):
        self.inner, self.fault = inner, fault

    def __call__(self, batch):
        return self.fault(self.inner(batch))


FAULTS = {
    "one part in a hundred too long": lambda rows: rows * np.float32(1.01),
    "NaN in one row": lambda rows: np.where(np.arange(len(rows))[:, None] == 1, np.nan, rows).astype(np.float32),
    "the sign of one row": lambda rows: rows * np.where(np.arange(len(rows)) == 2, -1, 1)[:, None].astype(np.float32),
    "zeros": np.zeros_like,
    "one row too few": lambda rows: rows[:-1],
}


def plant(monkeypatch, fault, only=("openvino",)) -> None:
    """Make backends give wrong embeddings."""
    real = backend_choice._make

    def make(bundle, backend, *arguments):
        runtime = real(bundle, backend, *arguments)
        return Shifted(runtime, fault) if backend in only else runtime

    monkeypatch.setattr(backend_choice, "_make", make)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("backend", ON_CPU)
def test_every_backend_gives_pytorchs_embeddings_of_the_probes(precise_bundle, backend, precision):
    bundle = open_bundle(precise_bundle)
    runtime = open_backend(bundle, backend, precision, threads=1)
    assert runtime.name == backend
    off, _ = probe_difference(bundle, runtime)
    assert off <= TOLERANCES[precision]


@pytest.mark.parametrize("backend", ON_CPU)
def test_all_probes_are_the_same_on_both_runtimes_at_any_batch_size(bundle_folder, backend):
    bundle = open_bundle(bundle_folder)
    windows = probe_windows(bundle.manifest.window)[1]
    reference = np.load(bundle_folder / "probes.npz")["embeddings"]
    runtime = open_backend(bundle, backend, "fp32", threads=2)
    for batch in (1, 4, 15):
        rows = np.concatenate([runtime(windows[i : i + batch]) for i in range(0, len(windows), batch)])
        np.testing.assert_allclose(rows, reference, atol=3e-4)


def test_openvino_computes_in_fp32_whatever_the_cpu_has(bundle_folder):
    openvino = open_backend(open_bundle(bundle_folder), "openvino", "fp32", threads=1)
    assert openvino.providers == ["CPU, f32"]


def test_a_model_that_takes_log_mel_is_given_the_front_ends(log_mel_bundle, precise_bundle):
    wave = 0.1 * np.random.default_rng(0).standard_normal(60_000)
    expected = Embedder.load(precise_bundle, "onnxruntime").embed(wave, 16_000)
    for backend in ON_CPU:
        np.testing.assert_allclose(Embedder.load(log_mel_bundle, backend).embed(wave, 16_000), expected, atol=1e-4)


def test_auto_takes_openvino_where_it_is_installed_and_there_is_no_gpu(bundle_folder, monkeypatch):
    monkeypatch.setattr(backend_choice, "_sees_gpu", lambda: False)
    assert open_backend(open_bundle(bundle_folder), "auto", "fp32", 1).name == "openvino"


@pytest.mark.parametrize("fault", FAULTS)
def test_auto_passes_over_a_backend_that_gives_other_numbers_with_one_warning(bundle_folder, monkeypatch, capfd, fault):
    monkeypatch.setattr(backend_choice, "_sees_gpu", lambda: False)
    plant(monkeypatch, FAULTS[fault])
    bundle = open_bundle(bundle_folder)
    assert open_backend(bundle, "auto", "fp32", 1).name == "onnxruntime"
    warnings = capfd.readouterr().err.strip().splitlines()
    assert len(warnings) == 1
    assert "openvino" in warnings[0]
    assert "other numbers" in warnings[0]


def test_a_backend_that_was_asked_for_and_gives_other_numbers_is_an_error(bundle_folder, monkeypatch):
    plant(monkeypatch, FAULTS["one part in a hundred too long"])
    with pytest.raises(BackendError, match=r"openvino .* off by 0\.01"):
        Embedder.load(bundle_folder, "openvino")


def turned(rows: np.ndarray, cosine: float) -> np.ndarray:
    """Rows [n, size] of the same lengths, each turned until its cosine with what it was is this."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / lengths
    across = np.random.default_rng(0).standard_normal(rows.shape)
    across -= (across * unit).sum(axis=1, keepdims=True) * unit
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return (lengths * (cosine * unit + np.sqrt(1 - cosine**2) * across)).astype(np.float32)


@pytest.mark.parametrize("probe", probe_windows(LogMelConfig().network_window(480))[0])
def test_an_int8_backend_whose_embedding_of_any_probe_is_below_the_promised_cosine_is_refused(monkeypatch, probe):
    """0.937 was measured on "square 4 kHz" where products overflowed 16 bits, and was accepted."""
    bundle = open_bundle(FROM_SCRATCH)
    names = probe_windows(bundle.manifest.window)[0]

    judged = 0

    def fault(rows):
        """Turn the probe's row: the probes come in their order, a few at a time."""
        nonlocal judged
        wrong, place = rows.copy(), names.index(probe) - judged
        judged += len(rows)
        if 0 <= place < len(rows):
            wrong[place] = turned(rows, 0.937)[place]
        return wrong

    plant(monkeypatch, fault, only=("onnxruntime",))
    with pytest.raises(BackendError, match=f'int8 embedding of "{probe}" is off by 0.3'):
        open_backend(bundle, "onnxruntime", "int8", 1)


def test_the_tolerances_of_the_probes_keep_the_cosines_that_the_export_promises():
    for precision, promised in PROMISED_COSINES.items():
        assert promised == (BOUNDS[precision].cosine if precision in BOUNDS else promised)
        rows = np.random.default_rng(1).standard_normal((8, 128)).astype(np.float32)
        least = turned(rows, promised - 1e-4)
        off = np.linalg.norm(least - rows, axis=1) / np.linalg.norm(rows, axis=1)
        assert off.min() > TOLERANCES[precision]
    assert TOLERANCES["fp32"] <= np.sqrt(1 - BOUNDS["fp32"].cosine ** 2)


def test_strict_allows_auto_no_second_choice(bundle_folder, monkeypatch):
    monkeypatch.setattr(backend_choice, "_sees_gpu", lambda: False)
    plant(monkeypatch, FAULTS["zeros"])
    with pytest.raises(BackendError, match="openvino"):
        open_backend(open_bundle(bundle_folder), "auto", "fp32", 1, strict=True)


def test_where_no_backend_is_right_none_is_served(bundle_folder, monkeypatch, capfd):
    monkeypatch.setattr(backend_choice, "_sees_gpu", lambda: False)
    plant(monkeypatch, FAULTS["NaN in one row"], only=ON_CPU)
    with pytest.raises(BackendError, match="no backend works"):
        open_backend(open_bundle(bundle_folder), "auto", "fp32", 1)
    assert capfd.readouterr().err.count("warning") == 2


def test_a_backend_that_crashes_on_opening_is_one_line_and_the_next_is_taken(bundle_folder, monkeypatch, capfd):
    monkeypatch.setattr(backend_choice, "_sees_gpu", lambda: False)
    real = backend_choice._make

    def make(bundle, backend, *arguments):
        if backend == "openvino":
            raise RuntimeError("no such\ninstruction")
        return real(bundle, backend, *arguments)

    monkeypatch.setattr(backend_choice, "_make", make)
    assert open_backend(open_bundle(bundle_folder), "auto", "fp32", 1).name == "onnxruntime"
    assert "RuntimeError: no such instruction" in capfd.readouterr().err
    with pytest.raises(BackendError, match="no such instruction"):
        open_backend(open_bundle(bundle_folder), "openvino", "fp32", 1)


@pytest.mark.parametrize(
    ("gpu", "engine", "order"),
    [
        (True, "fp32", ["tensorrt", "onnxruntime cuda", "openvino", "onnxruntime cpu"]),
        (True, "fp16", ["onnxruntime cuda", "openvino", "onnxruntime cpu"]),  # of another precision than asked for
        (False, "fp32", ["openvino", "onnxruntime cpu"]),
    ],
)
def test_auto_tries_the_gpu_first_where_there_is_one(bundle_folder, tmp_path, monkeypatch, gpu, engine, order):
    copy = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    (copy / "engines").mkdir()
    (copy / "engines" / f"tensorrt-11.0-sm89-{engine}.engine").touch()
    tried = []

    def make(bundle, backend, precision, threads, strict, providers):
        tried.append(" ".join([backend, *(providers or [])]))
        raise BackendError(f"{backend} is broken")

    monkeypatch.setattr(backend_choice, "_make", make)
    monkeypatch.setattr(backend_choice, "_sees_gpu", lambda: gpu)
    monkeypatch.setattr("serving.backends.onnxruntime.missing_for", lambda provider: None)
    with pytest.raises(BackendError, match="no backend works here"):
        open_backend(open_bundle(copy), "auto", "fp32", 1)
    assert tried == order


@pytest.fixture(scope="module")
def bfloat16() -> None:
    """Skips where it cannot be computed."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")


@pytest.mark.parametrize("bundle_name", ["bundle_folder", "log_mel_bundle"])
@pytest.mark.parametrize("backend", ["auto", "openvino"])
def test_bfloat16_is_computed_where_it_is_asked_for_and_keeps_every_probe(bfloat16, request, bundle_name, backend):
    folder = request.getfixturevalue(bundle_name)
    half, full = (Embedder.load(folder, backend, precision) for precision in ("bf16", "fp32"))
    assert (half.backend, half.precision, half.runtime.providers) == ("openvino", "bf16", ["CPU, bf16"])
    windows = probe_windows(half.manifest.window)[1]
    rows, wanted = half.run(windows), full.run(windows)
    assert not np.array_equal(rows, wanted)
    # 0.9994 was measured in trained networks. With the front end in bfloat16 too, a full-scale tone falls to 0.84.
    assert row_cosines(rows, wanted).min() > 0.998


def test_bfloat16_needs_openvino_and_a_cpu_that_has_it(bundle_folder, monkeypatch):
    with pytest.raises(UsageError, match=r"got bf16.*take the backend openvino, or fp32"):
        Embedder.load(bundle_folder, "onnxruntime", "bf16")
    pytest.importorskip("openvino", reason="openvino is not installed")

    class OldCpu:
        def get_property(self, device, name):
            return ["FP32", "INT8"]

    monkeypatch.setattr("serving.backends.openvino.openvino_core", OldCpu)
    with pytest.raises(UsageError, match=r"got bf16, which this CPU does not compute"):
        Embedder.load(bundle_folder, "openvino", "bf16")


def test_bfloat16_would_not_pass_as_fp32(bfloat16, bundle_folder):
    """The tolerance is what keeps a runtime from saving time on precision unasked."""
    bundle = open_bundle(bundle_folder)
    compiled = openvino_core().compile_model(
        str(bundle.model("fp32")), "CPU", {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1}
    )
    off, _ = probe_difference(bundle, Shifted(lambda batch: compiled(batch)[0], np.asarray))
    assert off > TOLERANCES["fp32"]


def test_an_unknown_backend_lists_the_known_ones(bundle_folder):
    with pytest.raises(UsageError, match="auto, onnxruntime, openvino, tensorrt"):
        Embedder.load(bundle_folder, "caffe")


def test_a_precision_that_the_bundle_lacks_says_how_to_get_it(bundle_folder):
    with pytest.raises(BundleError, match=r"int8.*--precision"):
        Embedder.load(bundle_folder, precision="int8")


def test_tensorrt_without_an_engine_says_how_to_build_one(bundle_folder):
    with pytest.raises(EngineError, match=r"export\.tensorrt"):
        Embedder.load(bundle_folder, "tensorrt")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=300,
    )


@pytest.mark.parametrize("dropped", ["in the order of opening", "in another thread"])
def test_a_signal_finds_its_handler_after_openvino_embedders_are_gone(bundle_folder, dropped):
    """OpenVINO changes the stack of signal handlers, and frees it with no regard to who uses it still."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    code = f"""
import os, signal, threading
from serving.embedder import Embedder
embedders = [Embedder.load({str(bundle_folder)!r}, "openvino", threads=1) for _ in range(2)]
def drop():
    while embedders:
        del embedders[0]
if {dropped!r} == "in another thread":
    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
else:
    drop()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
print("alive")
"""
    done = run_python(code)
    assert (done.returncode, done.stdout.split()) == (0, ["handled", "alive"]), done.stderr


@pytest.mark.parametrize("missing", ["openvino", "scipy.fft"])
def test_openvino_that_is_not_installed_names_the_extra_and_auto_does_without(bundle_folder, missing):
    done = run_python(
        f"""
from serving.embedder import Embedder
from serving.errors import UsageError
try:
    Embedder.load({str(bundle_folder)!r}, "openvino")
except UsageError as error:
    print(error)
print(Embedder.load({str(bundle_folder)!r}).backend)
""",
        **environment_without(missing),
    )
    assert 'pip install -e ".[openvino]"' in done.stdout, done.stderr
    assert done.stdout.endswith("\nonnxruntime\n"), done.stderr


def test_auto_without_openvino_takes_onnxruntime_and_says_nothing(bundle_folder, tmp_path):
    done = run_python(
        f"""
from serving.embedder import Embedder
print(Embedder.load({str(bundle_folder)!r}).backend)
""",
        **environment_without("openvino"),
    )
    assert done.stdout == "onnxruntime\n", done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_backend_is_opened_without_telemetry(bundle_folder, tmp_path, backend):
    """Both libraries' imports report to their makers where nobody objects."""
    done = run_python(
        f"""
import json, socket, sys
asked = []
socket.getaddrinfo = lambda *a, **k: asked.append(a) or (_ for _ in ()).throw(OSError("no network"))
from serving.embedder import Embedder
embedder = Embedder.load({str(bundle_folder)!r}, {backend!r})
loaded = [name for name in ("openvino_telemetry", "openvino.tools.ovc") if name in sys.modules]
import time
time.sleep(1)
print(json.dumps([embedder.backend, loaded, asked]))
""",
        HOME=str(tmp_path),
    )
    assert json.loads(done.stdout) == [backend, [], []], done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_stored_probes_is_refused(bundle_folder, tmp_path):
    copy = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    from dataclasses import replace

    from serving.bundle.manifest import write_manifest

    manifest = replace(open_bundle(copy).manifest, files={})
    (copy / "probes.npz").unlink()
    write_manifest(copy, manifest)
    with pytest.raises(BundleError, match=r"has no probes\.npz"):
        Embedder.load(copy)
