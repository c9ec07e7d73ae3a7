"""ONNX Runtime: runs a graph on the CPU, or on an NVIDIA GPU by its CUDA or TensorRT provider."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.backends.onnxruntime_library import onnxruntime
from serving.backends.tensorrt_flavours import installed_flavours, load_flavour
from serving.bundle_files import ENGINES
from serving.command_line import say
from serving.errors import BackendError, UsageError, one_line

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
MOST_PROVIDER_ROWS = 64  # batch limit of the TensorRT provider's engine; for a larger batch it builds another engine
DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
TENSORRT_10 = "nvinfer_10.dll" if sys.platform == "win32" else "libnvinfer.so.10"


class OnnxRuntime:
    """A callable over one ONNX file with one input and one output, both with a dynamic batch. Thread-safe.

    path       the ONNX file
    content    its bytes, if they have been read and checked already; None: read the file
    threads    CPU threads of one inference
    providers  any of "cpu", "cuda" and "tensorrt", in order of preference; None: cuda if there is a driver, then cpu
    strict     raise an error if a requested provider does not work; otherwise print a warning on stderr and use the
               next provider
    spinning   idle threads keep their core busy for a short time. Faster if the process has the cores to itself, slower
               otherwise
    cache      folder for the engines that the tensorrt provider builds, which takes minutes; None: engines/onnxruntime
               beside the file
    errors     UsageError: an unknown provider; BackendError: with `strict`, a provider does not work here
    """

    name = "onnxruntime"

    def __init__(
        self,
        path: Path,
        threads: int,
        providers: Sequence[str] | None = None,
        *,
        strict: bool = False,
        spinning: bool = True,
        cache: Path | None = None,
        content: bytes | None = None,
    ):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
        if providers is None:
            providers = ["cuda", "cpu"] if missing_for("cuda") is None else ["cpu"]
        reasons = {name: missing_for(name) for name in providers}
        usable = [name for name in providers if reasons[name] is None]
        model = str(path) if content is None else content
        self._session, refused = _open(model, options, usable, cache or path.parent / ENGINES / "onnxruntime")
        self.threads = threads
        self.version: str = onnxruntime.__version__
        self.providers: list[str] = list(self._session.get_providers())
        absent = {
            name: reasons[name] or refused.get(name, "ONNX Runtime left it out; its own lines say why")
            for name in providers
            if PROVIDERS[name] not in self.providers
        }
        if absent:
            what = "; ".join(f"{name} does not work here: {why}" for name, why in absent.items())
            if strict:
                raise BackendError(f"provider {what}")
            say(f"warning: provider {what}; {path.name} runs on {self.providers[0]}")
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """[batch, ...] float32 -> [batch, ...] float32; the graph defines the other dimensions."""
        return np.asarray(self._session.run([self._output], {self._input: batch})[0])


def missing_for(provider: str) -> str | None:
    """What a provider needs that this machine does not have, and how to get it; None if it may work.

    errors   UsageError: an unknown provider
    """
    if provider not in PROVIDERS:
        raise UsageError(f"provider: got {provider}; wanted {', '.join(PROVIDERS)}")
    if PROVIDERS[provider] not in onnxruntime.get_available_providers():
        return f"onnxruntime {onnxruntime.__version__} was built without it; install onnxruntime-gpu in its place"
    if provider == "cpu":
        return None
    if not _loads(DRIVER):
        return f"there is no NVIDIA driver ({DRIVER}); install it, or take cpu"
    if provider == "tensorrt":
        return _missing_tensorrt()
    return None


def _missing_tensorrt() -> str | None:
    # ONNX Runtime links TensorRT 10. The linker does not find it in a Python package; importing the package loads it.
    if "tensorrt" in installed_flavours():
        version = load_flavour("tensorrt").__version__
        if not version.startswith("10."):
            return f'it needs TensorRT 10, and {version} is installed; pip install "tensorrt<11", or take cuda'
    if not _loads(TENSORRT_10):
        return f'it needs TensorRT 10 ({TENSORRT_10}); pip install "tensorrt<11", or take cuda'
    return None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _open(
    model: str | bytes, options: onnxruntime.SessionOptions, providers: list[str], cache: Path
) -> tuple[onnxruntime.InferenceSession, dict[str, str]]:
    """Open a session on a file or its bytes with these providers; the CPU is always one of them.

    returns   the session, and the reason for each provider that could not be used
    """
    if set(providers) - {"cpu"}:
        with contextlib.redirect_stdout(sys.stderr):  # it prints missing libraries to stdout, which is for results
            onnxruntime.preload_dlls()  # CUDA and cuDNN from the NVIDIA packages, for example of PyTorch
    refused: dict[str, str] = {}
    while True:
        left = [name for name in providers if name not in refused]
        wanted = [(PROVIDERS[name], _provider_options(name, model, options, cache)) for name in left]
        try:
            # ONNX Runtime's own fall-back would silently drop the options of the other providers.
            session = onnxruntime.InferenceSession(
                model, options, providers=wanted or [PROVIDERS["cpu"]], enable_fallback=0
            )
        except Exception as error:
            if not left or left[0] == "cpu":
                raise
            refused[left[0]] = one_line(error)
        else:
            return session, refused


def _provider_options(
    provider: str, model: str | bytes, options: onnxruntime.SessionOptions, cache: Path
) -> dict[str, Any]:
    match provider:
        case "cuda":
            # TF32 multiplies with 10 bits of mantissa. The default algorithm search runs for every new batch size.
            return {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        case "tensorrt":
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # the provider has no option to switch TF32 off
            cache.mkdir(parents=True, exist_ok=True)
            return {
                "trt_engine_cache_enable": "1",
                "trt_engine_cache_path": str(cache),
                "trt_timing_cache_enable": "1",
                "trt_timing_cache_path": str(cache),
                **_profile_shapes(model, options),
            }
        case _:
            return {}


def _profile_shapes(model: str | bytes, options: onnxruntime.SessionOptions) -> dict[str, str]:
    """One engine for 1 to MOST_PROVIDER_ROWS rows, in place of one for each new batch size."""
    plain = onnxruntime.InferenceSession(model, options, providers=[PROVIDERS["cpu"]])
    entry = plain.get_inputs()[0]
    sizes = "x".join(map(str, entry.shape[1:]))
    rows = {"min": 1, "opt": 8, "max": MOST_PROVIDER_ROWS}
    return {f"trt_profile_{name}_shapes": f"{entry.name}:{count}x{sizes}" for name, count in rows.items()}
