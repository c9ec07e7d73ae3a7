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
DEQUANTISES = ("Convert", "Subtract", "Multiply")


class OpenVino:
    """A callable over one ONNX file with one input and one output, both with a dynamic batch.

    network  only what follows the log-mel of an embedder's graph, whose front end an FFT computes in half of the time
             (serving.backends.fft)
    bf16     compute in bfloat16, which takes half of the time where the CPU has it: of an embedder, the network alone.
             In bfloat16 a full-scale tone would leave noise in all other bands of the front end, and the cosine of its
             embedding with the right one falls to 0.84. False: FP32, whatever the CPU, for OpenVINO itself would take
             bfloat16. None: where the CPU has it. The quantised layers of an INT8 file stay so.

    Thread-safe: calls from several threads take turns, each with all the threads.

    errors   UsageError: OpenVINO is not installed, or bf16 on a CPU without it
    """

    name = "openvino"

    def __init__(self, path: Path, threads: int, bf16: bool | None = False, network: bool = False):
        openvino = load_openvino()
        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if bf16 and not has_bf16:
            raise UsageError("--precision: got bf16, which this CPU does not compute; take fp32 or int8")
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,  # one call at a time has all threads: the least latency, and one copy of the buffers
            # Pinned threads of two processes would share the first cores and leave the others idle.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 or (bf16 is None and has_bf16) else "f32",
        }
        model = core.read_model(str(path))
        if network:
            model = _after_log_mel(openvino, model)
        _quantise_as_it_lies(model)
        compiled = core.compile_model(model, "CPU", options)
        self._request = compiled.create_infer_request()
        self._tensor = openvino.Tensor
        self._turn = Lock()
        self.version: str = openvino.__version__.split("-")[0]
        self.providers: list[str] = [f"CPU, {compiled.get_property('INFERENCE_PRECISION_HINT').get_type_name()}"]

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """[batch, ...] float32 -> [batch, ...] float32, as the graph says."""
        # As a tensor it needs no look at its type, which takes as long as the rest of the call in Python.
        inputs = self._tensor(np.require(batch, requirements=("C", "W")), shared_memory=True)
        with self._turn:
            # A copy: the request's own is written again.
            return np.array(self._request.infer(inputs, share_outputs=True)[0])


def _after_log_mel(openvino: Any, model: Any) -> Any:
    """The network of an embedder's graph, which is all of it where it takes log-mel."""
    logarithms = [node for node in model.get_ops() if node.get_type_name() == "Log"]
    if not logarithms:
        return model
    (log_mel,) = (node.output(0) for node in logarithms)
    source = openvino.opset13.parameter(log_mel.get_partial_shape(), openvino.Type.f32)
    for reader in log_mel.get_target_inputs():
        reader.replace_source_output(source.output(0))
    return openvino.Model(model.get_results(), [source])


def _quantise_as_it_lies(model: Any) -> None:
    """Let an INT8 network quantise log-mels [batch, frames, 64] before they become an image of one channel, not after.

    For images OpenVINO's kernel wants blocks of 16 channels: 15 of them zeros here, a seventh of `yamnet-compact`'s
    time to write and read. In bfloat16 it would also round the log-mels first.
    """
    quantise = next((node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"), None)
    if quantise is None or quantise.input_value(0).get_node().get_type_name() != "Unsqueeze":
        return
    image = quantise.input_value(0).get_node()
    last = quantise  # of what rounds, and then gives back the range of the log-mels
    while (readers := list(last.output(0).get_target_inputs()))[0].get_node().get_type_name() in DEQUANTISES:
        last = readers[0].get_node()
    quantise.input(0).replace_source_output(image.input_value(0))
    for reader in readers:
        reader.replace_source_output(image.output(0))
    image.input(0).replace_source_output(last.output(0))
    model.validate_nodes_and_infer_types()


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
