"""The ONNX files of a bundle: the front end, and the embedder in each precision."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.dft_factors import factor_basis
from export.graph import OPSET, LogMelEmbedder, export_graph, fold_batch_norm, write_graph
from export.parity.judge import Runtime
from export.precision import Quantised, half_precision, quantise
from export.trained_run import Source
from serving.backends.onnxruntime import OnnxRuntime
from serving.backends.runtime import WithFrontEnd
from serving.bundle import PRECISIONS
from serving.cores import usable_cores
from serving.probes import probe_windows
from training.networks import MEL_BANDS


class ModelFiles:
    """The ONNX files of one bundle, written one by one into a folder.

    nodes   file -> nodes of its graph
    """

    def __init__(self, source: Source, input_name: str, folder: Path):
        self.source = source
        self.input = input_name
        self.folder = folder
        self.nodes: dict[str, int] = {}
        module = source.module
        window, frames = source.window, source.config.window_frames
        self._log_mel = module.log_mel
        self._waveform = ("waveform", (window.samples,))
        if input_name == "waveform":
            self._embedder = fold_batch_norm(module)
            self._takes = self._waveform
        else:
            self._embedder = fold_batch_norm(LogMelEmbedder(source.network))
            self._takes = (input_name, (frames, MEL_BANDS))

    def write_front_end(self) -> None:
        """frontend.onnx: waveform -> log-mel."""
        self._write(export_graph(self._log_mel, self._waveform, "log_mel"), "frontend.onnx", "fp32")

    def write_fp32(self) -> None:
        """The network as it was trained."""
        self._write(export_graph(self._embedder, self._takes, "embedding"), PRECISIONS["fp32"], "fp32")

    def write_fp16(self) -> None:
        """The network in FP16, its front end and its output in FP32."""
        half = half_precision(self._embedder)
        self._write(export_graph(half, self._takes, "embedding"), PRECISIONS["fp16"], "fp16")

    def write_int8(self, calibration: NDArray[np.float32], judged: NDArray[np.float32]) -> Quantised:
        """The FP32 file with the layers that bear it in INT8.

        calibration, judged   [n, samples] windows of different recordings, see `quantise`
        """
        probes = probe_windows(self.source.window)[1]
        if self.input == "log_mel":
            calibration, judged, probes = map(self._open("frontend.onnx"), (calibration, judged, probes))
        quantised = quantise(self.folder / PRECISIONS["fp32"], calibration, judged, probes, self.source.zeroshot)
        if self.input == "waveform":
            factor_basis(quantised.model)
        self._write(quantised.model, PRECISIONS["int8"], "int8")
        return quantised

    def runtime(self, precision: str) -> Runtime:
        """Waveforms [n, samples] to embeddings, by ONNX Runtime on the CPU."""
        model = self._open(PRECISIONS[precision])
        if self.input == "waveform":
            return model
        return WithFrontEnd(model, self._open("frontend.onnx"))

    def _open(self, name: str) -> OnnxRuntime:
        return OnnxRuntime(self.folder / name, usable_cores(), ["cpu"])

    def _write(self, model: onnx.ModelProto, name: str, precision: str) -> None:
        source = self.source
        facts = {
            "embedding_space": source.embedding_space,
            "network": source.config.network.name,
            "rate_hz": str(source.window.rate_hz),
            "window_samples": str(source.window.samples),
            "license": source.config.license,
            "precision": precision,
            "opset": str(OPSET),
        }
        self.nodes[name] = write_graph(model, self.folder / name, facts)
