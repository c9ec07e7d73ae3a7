"""Which runtime runs a bundle's model: the one that was asked for, or the fastest that works here.

A runtime is taken only where it makes of a few probes what PyTorch made of them.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from serving.backends.runtime import Graph, Runtime, identity
from serving.backends.sidecar import ENGINES
from serving.bundle import BF16, Bundle
from serving.command import say
from serving.errors import BackendError, UnheardError, UsageError
from serving.frontend import LogMelConfig
from serving.probes import PROBES, probe_windows

BACKENDS = ("auto", "onnxruntime", "openvino", "tensorrt")

CANARIES = ("chirp 50 Hz to 8 kHz", "square 440 Hz, full scale", "one sample at the start")  # a few of the probes
# How far a canary's embedding may be from PyTorch's, as a share of its length. fp32: ONNX Runtime stays below
# 1e-4, OpenVINO below 2e-4, for its front end's FFT rounds on the full-scale chirp; in bfloat16, which it takes by
# itself where the CPU has it, it is 6e-3 to 9e-3 off. fp16 and int8: what the export lets pass, cosines of 0.999 and
# 0.985, as a length; bf16: as fp16.
TOLERANCES = {"fp32": 1e-3, "fp16": 0.05, BF16: 0.05, "int8": 0.2}


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
    """Open one backend and hold it against the canaries."""
    try:
        runtime = _make(bundle, backend, precision, threads, strict, providers)
        off = canary_difference(bundle, runtime)
    except UnheardError:
        raise
    except Exception as error:  # of any type: whatever the library raises
        reason = " ".join(str(error).split())
        raise BackendError(f"backend {backend} does not work here ({type(error).__name__}: {reason})") from error
    if not off <= TOLERANCES[precision]:
        raise BackendError(
            f"backend {backend} {runtime.version} gives other numbers than PyTorch: {precision} embeddings are off by "
            f"{off:.2g} of their length, wanted at most {TOLERANCES[precision]:g}"
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

    return OnnxRuntime(bundle.path("frontend.onnx"), 1, ["cpu"])


def with_front_end(bundle: Bundle, network: Graph) -> Runtime:
    """A runtime over the graph of a bundle, with the bundle's front end before it where the graph takes log-mel."""
    return Runtime(network, identity if bundle.manifest.input == "waveform" else open_front_end(bundle))


def canary_difference(bundle: Bundle, runtime: Runtime) -> float:
    """How far the canaries' embeddings are from PyTorch's, the worst as a share of its length; inf: no embeddings."""
    names, windows = probe_windows(bundle.manifest.window)
    with np.load(bundle.path(PROBES), allow_pickle=False) as stored:
        reference = dict(zip(map(str, stored["names"]), stored["embeddings"], strict=True))
    wanted = np.stack([reference[name] for name in CANARIES])  # [n, 128]
    rows = runtime(windows[[names.index(name) for name in CANARIES]])
    if rows.shape != wanted.shape or not np.isfinite(rows).all():
        return float("inf")
    return float((np.linalg.norm(rows - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max())
