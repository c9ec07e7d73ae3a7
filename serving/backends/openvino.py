"""OpenVINO: the embedder graph on a CPU. An optional extra: pip install "unheard[openvino]"."""

import importlib
import sys
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import UsageError

# Importing openvino imports its model converter, and that reports the import to its makers over the network.
REPORTING = "openvino.tools.ovc"


class OpenVino:
    """A callable over one ONNX file with one input and one output, both with a dynamic batch.

    FP32 arithmetic whatever the CPU: OpenVINO itself takes bfloat16 where the CPU has it, which moves an embedding
    by some thousandths. The quantised layers of an INT8 file stay so.

    Thread-safe: calls from several threads take turns, each with all the threads.

    errors   UsageError: OpenVINO is not installed
    """

    name = "openvino"

    def __init__(self, path: Path, threads: int):
        openvino = load_openvino()
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,  # one call at a time has all threads: the least latency, and one copy of the buffers
            # Pinned threads of two processes would share the first cores and leave the others idle.
            "ENABLE_CPU_PINNING": False,
        }
        compiled = openvino.Core().compile_model(str(path), "CPU", options)
        self._request = compiled.create_infer_request()
        self._turn = Lock()
        self.version: str = openvino.__version__.split("-")[0]
        self.providers: list[str] = [f"CPU, {compiled.get_property('INFERENCE_PRECISION_HINT').get_type_name()}"]

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """[batch, ...] float32 -> [batch, ...] float32, as the graph says."""
        with self._turn:
            return np.array(self._request.infer([batch])[0])  # a copy: the request's own is written again


def load_openvino() -> Any:
    """The openvino module, imported so that it sends nothing; UsageError where it is not installed."""
    if sys.modules.get("openvino"):
        return sys.modules["openvino"]
    sys.modules[REPORTING] = None  # pyright: ignore[reportArgumentType]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise UsageError(
            'openvino is not installed; get it with: pip install "unheard[openvino]", or take --backend onnxruntime'
        ) from error
    finally:
        sys.modules.pop(REPORTING, None)
