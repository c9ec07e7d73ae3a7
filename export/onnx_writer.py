"""Write the ONNX files of a bundle: the front end, and the embedder in each precision."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.dft_factors import factor_basis
from export.graph import OPSET, LogMelEmbedder, export_graph, fold_batch_norm, write_graph
from export.half_range import refuse_overflow
from export.precision import Quantised, half_precision, quantise
from export.trained_run import TrainedRun
from serving.backends.onnxruntime import OnnxRuntime
from serving.backends.runtime import Runtime, identity
from serving.bundle.bundle_files import FRONT_END_MODEL, PRECISIONS
from serving.cores import usable_cores
from serving.probes import probe_windows
from training.layers import MEL_BANDS


class OnnxWriter:
    """Writes the ONNX files of one bundle into a folder.

    nodes   file name -> number of nodes in its graph
    """

    def __init__(self, run: TrainedRun, input_name: str, folder: Path):
        self.run = run
        self.input = input_name
        self.folder = folder
        self.nodes: dict[str, int] = {}
        module = run.module
        self._log_mel = module.log_mel
        self._waveform = ("waveform", (run.window.samples,))
        if input_name == "waveform":
            self._embedder = fold_batch_norm(module)
            self._embedder_input = self._waveform
        else:
            self._embedder = fold_batch_norm(LogMelEmbedder(run.network))
            self._embedder_input = (input_name, (run.config.window_frames, MEL_BANDS))

    def write_front_end(self) -> None:
        """Write frontend.onnx: waveform -> log-mel."""
        self._write(export_graph(self._log_mel, self._waveform, "log_mel"), FRONT_END_MODEL, "fp32")

    def write_fp32(self) -> None:
        """Write the trained network in FP32."""
        self._write(export_graph(self._embedder, self._embedder_input, "embedding"), PRECISIONS["fp32"], "fp32")

    def write_fp16(self, names: Sequence[str], windows: NDArray[np.float32], n_probes: int) -> None:
        """Write the network in FP16. Its front end and its output are FP32.

        names, windows, n_probes   on which its numbers are measured; UsageError: FP16 does not hold one
        """
        refuse_overflow(self._embedder, self._log_mel, names, windows, n_probes)
        half = half_precision(self._embedder)
        self._write(export_graph(half, self._embedder_input, "embedding"), PRECISIONS["fp16"], "fp16")

    def write_int8(self, calibration: NDArray[np.float32], judged: NDArray[np.float32]) -> Quantised:
        """Quantise the FP32 file to INT8, except the layers that lose too much accuracy.

        calibration, judged   [n, samples] windows of different recordings, see `quantise`
        """
        probes = probe_windows(self.run.window)[1]
        if self.input == "log_mel":
            calibration, judged, probes = map(self._open(FRONT_END_MODEL), (calibration, judged, probes))
        quantised = quantise(self.folder / PRECISIONS["fp32"], calibration, judged, probes, self.run.zeroshot)
        if self.input == "waveform":
            factor_basis(quantised.model)
        self._write(quantised.model, PRECISIONS["int8"], "int8")
        return quantised

    def runtime(self, precision: str) -> Runtime:
        """Open a written file in ONNX Runtime on the CPU: waveforms [n, samples] -> embeddings [n, 128]."""
        front_end = identity if self.input == "waveform" else self._open(FRONT_END_MODEL)
        return Runtime(self._open(PRECISIONS[precision]), front_end)

    def _open(self, name: str) -> OnnxRuntime:
        return OnnxRuntime(self.folder / name, usable_cores(), ["cpu"])

    def _write(self, model: onnx.ModelProto, name: str, precision: str) -> None:
        run = self.run
        facts = {
            "embedding_space": run.embedding_space,
            "network": run.config.network.name,
            "rate_hz": str(run.window.rate_hz),
            "window_samples": str(run.window.samples),
            "license": run.config.license,
            "precision": precision,
            "opset": str(OPSET),
        }
        self.nodes[name] = write_graph(model, self.folder / name, facts)
