"""Which runtime runs a bundle's model: the one that was asked for, or the fastest that works here.

A runtime is taken only if its embeddings of the probes are those that PyTorch gave at the export.
"""

import importlib.util
import sys
from collections.abc import Iterator
from math import sqrt
from pathlib import Path

import numpy as np

from serving.backends.runtime import Graph, Runtime, identity
from serving.backends.sidecar import ENGINES
from serving.bundle import BF16, FRONT_END_MODEL, PROBES, Bundle
from serving.command_line import say
from serving.errors import BackendError, UnheardError, UsageError
from serving.log_mel import LogMelConfig
from serving.probes import probe_windows

BACKENDS = ("auto", "onnxruntime", "openvino", "tensorrt")

# The least cosine of a probe's embedding with PyTorch's: what the export promises (export.compare.BOUNDS). bfloat16 has
# no file and no promise: its probes stay above 0.999 (docs/export.md), and fall to 0.87 where the front end is computed
# in bfloat16 too.
PROMISED_COSINES = {"fp16": 0.999, BF16: 0.995, "int8": 0.985}
# How far a probe's embedding may be from PyTorch's, as a share of its length. An embedding at an angle a is off by
# sin(a) of its length or more, so an embedding within the tolerance has the cosine too. fp32 is held tighter than its
# promised 0.99999: ONNX Runtime stays below 1e-4 and OpenVINO, whose front end rounds in an FFT, below 2e-4; in
# bfloat16, which OpenVINO takes by itself where the CPU has it, they are 6e-3 to 2e-2 off.
TOLERANCES = {"fp32": 1e-3} | {precision: sqrt(1 - cosine**2) for precision, cosine in PROMISED_COSINES.items()}
# An embedding shorter than this (their mean length is 1) is compared as if it were this long: rounding does not shrink
# with it.
LEAST_LENGTH = 0.1


def open_backend(bundle: Bundle, backend: str, precision: str, threads: int, strict: bool = False) -> Runtime:
    """The runtime of a bundle's model.

    backend    one of BACKENDS. auto: the first that is here and right of TensorRT with an engine for this GPU, ONNX
               Runtime on a GPU, OpenVINO, ONNX Runtime on the CPU; one that is here and does not work, or gives
               other numbers, is passed over with a warning on stderr
    precision  fp32, fp16 or int8; bf16: the FP32 model with its network in bfloat16, on OpenVINO alone
    threads    for one inference on the CPU
    strict     nothing is passed over: what would be a warning is an error
    errors     UsageError: no backend of that name, or not installed; BundleError: no model of that precision;
               EngineError: no TensorRT engine fits; BackendError: it does not work here, or gives other numbers
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend: got {backend}; wanted one of {', '.join(BACKENDS)}")
    bundle.model(precision)  # what the bundle lacks is no fault of a backend
    bundle.path(PROBES)
    if backend != "auto":
        return _open(bundle, backend, precision, threads, strict)
    refused: UnheardError | None = None
    for name, providers in _candidates(bundle, precision):
        try:
            return _open(bundle, name, precision, threads, strict=True, providers=providers)
        except UnheardError as error:
            if strict:
                raise
            say(f"warning: {error}; trying the next backend")
            refused = error
    raise BackendError(f"no backend works here; the last that was tried: {refused}")


def _candidates(bundle: Bundle, precision: str) -> Iterator[tuple[str, list[str] | None]]:
    """Backends that are installed and could work, with ONNX Runtime's providers: the fastest first."""
    if precision == BF16:
        yield "openvino", None
        return
    if _sees_gpu():
        if any((bundle.folder / ENGINES).glob(f"*-{precision}.engine")):
            yield "tensorrt", None
        from serving.backends.onnxruntime import missing_for

        if missing_for("cuda") is None:
            yield "onnxruntime", ["cuda"]
    if importlib.util.find_spec("openvino"):
        yield "openvino", None
    yield "onnxruntime", ["cpu"]


def _sees_gpu() -> bool:
    """False where there is no NVIDIA GPU for certain; asked before anything large is imported."""
    return sys.platform != "linux" or any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))


def _open(
    bundle: Bundle, backend: str, precision: str, threads: int, strict: bool, providers: list[str] | None = None
) -> Runtime:
    """Open one backend and compare it with PyTorch on the probes."""
    try:
        runtime = _make(bundle, backend, precision, threads, strict, providers)
        off, probe = probe_difference(bundle, runtime)
    except UnheardError:
        raise
    except Exception as error:  # of any type: whatever the library raises
        reason = " ".join(str(error).split())
        raise BackendError(f"backend {backend} does not work here ({type(error).__name__}: {reason})") from error
    if not off <= TOLERANCES[precision]:
        raise BackendError(
            f"backend {backend} {runtime.version} gives other numbers than PyTorch: the {precision} embedding of "
            f'"{probe}" is off by {off:.2g} of its length, wanted at most {TOLERANCES[precision]:.2g}'
        )
    return runtime


def _make(
    bundle: Bundle, backend: str, precision: str, threads: int, strict: bool, providers: list[str] | None
) -> Runtime:
    if precision == BF16 and backend != "openvino":
        raise UsageError(f"--precision: got bf16, which {backend} does not compute; take --backend openvino, or fp32")
    # Imported one at a time: what is not used takes no memory, and may not be installed.
    match backend:
        case "tensorrt":
            from serving.backends.tensorrt import TensorRT, find_engine

            return with_front_end(bundle, TensorRT(find_engine(bundle, precision), bundle))
        case "openvino":
            return open_openvino(bundle, precision, threads)
        case _:
            from serving.backends.onnxruntime import OnnxRuntime

            return with_front_end(bundle, OnnxRuntime(bundle.model(precision), threads, providers, strict=strict))


def open_openvino(bundle: Bundle, precision: str, threads: int) -> Runtime:
    """A bundle's model for waveforms, in fp32, fp16, int8 or bf16, its front end by FFT.

    errors   as `OpenVino`, `Bundle.model` and `FftLogMel`
    """
    from serving.backends.fft import FftLogMel
    from serving.backends.openvino import OpenVino

    # What an INT8 file left in FP32 can as well be bfloat16: its embeddings are hardly other ones, 5 to 10 % sooner.
    bf16 = None if precision == "int8" else precision == BF16
    network = OpenVino(bundle.model(precision), threads, bf16, network=True)
    # INT8 and bfloat16 round log-mels by ten times what an FFT in FP32 does at its worst.
    precise = precision not in ("int8", BF16)
    return Runtime(network, FftLogMel(LogMelConfig(**bundle.manifest.front_end), precise))


def runs_on_gpu(runtime: Runtime) -> bool:
    """Whether a large batch is faster."""
    return runtime.name == "tensorrt" or any(name.startswith(("CUDA", "Tensorrt")) for name in runtime.providers)


def open_front_end(bundle: Bundle) -> Graph:
    """Waveforms [batch, samples] -> log-mel [batch, frames, 64], on the CPU."""
    from serving.backends.onnxruntime import OnnxRuntime

    return OnnxRuntime(bundle.path(FRONT_END_MODEL), 1, ["cpu"])


def with_front_end(bundle: Bundle, network: Graph) -> Runtime:
    """A runtime over the graph of a bundle, with the bundle's front end before it where the graph takes log-mel."""
    return Runtime(network, identity if bundle.manifest.input == "waveform" else open_front_end(bundle))


def probe_difference(bundle: Bundle, runtime: Runtime) -> tuple[float, str]:
    """How far the probes' embeddings are from PyTorch's.

    returns   the largest distance, as a share of the embedding's length, and its probe's name; inf: no embeddings
    """
    names, windows = probe_windows(bundle.manifest.window)
    with np.load(bundle.path(PROBES), allow_pickle=False) as stored:
        reference = dict(zip(map(str, stored["names"]), stored["embeddings"], strict=True))
    wanted = np.stack([reference[name] for name in names])  # [n_probes, 128]
    rows = runtime(windows)
    if rows.shape != wanted.shape:
        return float("inf"), names[0]
    off = np.linalg.norm(rows - wanted, axis=1) / np.maximum(np.linalg.norm(wanted, axis=1), LEAST_LENGTH)
    off = np.nan_to_num(off, nan=np.inf)
    worst = int(off.argmax())
    return float(off[worst]), names[worst]
