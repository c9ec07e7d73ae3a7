"""ONNX Runtime: the embedder graph on a CPU, or on an NVIDIA GPU where there is one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that this machine has


class OnnxRuntime:
    """A callable over one ONNX file with one input and one output, both with a dynamic batch.

    Thread-safe: ONNX Runtime sessions may be run from several threads at once.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, threads: int, providers: Sequence[str] = PROVIDERS):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        available = onnxruntime.get_available_providers()
        wanted = [name for name in providers if name in available]
        # A machine without a GPU is no fault, but the CUDA provider prints four lines of errors about it.
        onnxruntime.set_default_logger_severity(4)
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
        finally:
            onnxruntime.set_default_logger_severity(2)
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name
        self.providers: list[str] = list(self._session.get_providers())
        self.version: str = onnxruntime.__version__

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """[batch, ...] float32 -> [batch, ...] float32, as the graph says."""
        return np.asarray(self._session.run([self._output], {self._input: batch})[0])
