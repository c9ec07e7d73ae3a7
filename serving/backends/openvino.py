"""OpenVINO: runs a graph on the CPU. The optional extra `openvino`."""

import importlib
import sys
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.backends.signal_stack import kept_signal_stack
from serving.errors import UsageError
from serving.extras import pip_install

# Importing openvino imports its model converter, which sends telemetry to its makers.
TELEMETRY_MODULE = "openvino.tools.ovc"
DEQUANTISING = ("Convert", "Subtract", "Multiply")


class OpenVino:
    """A callable over one ONNX file with one input and one output, both with a dynamic batch.

    path     the ONNX file
    content  its bytes, if they have been read and checked already; None: read the file
    threads  CPU threads of one inference
    network  run only the part of an embedder graph after the log-mel; serving.backends.fft_front_end computes the
             log-mel in half of the graph's time
    bf16     True: compute in bfloat16, which takes half of the time on a CPU that has it. Only for a network: with the
             front end in bfloat16 too, the embedding of a full-scale tone had a cosine of 0.84. False: compute in FP32
             (OpenVINO's default is bfloat16 if the CPU has it). None: bfloat16 if the CPU has it.
             The quantised layers of an INT8 file stay INT8
    errors   UsageError: OpenVINO is not installed, or the CPU does not have bfloat16

    Thread-safe: calls from several threads run one after the other, each with all `threads`.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        threads: int,
        bf16: bool | None = False,
        network: bool = False,
        content: bytes | None = None,
    ):
        openvino, core = load_openvino(), openvino_core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if bf16 and not has_bf16:
            raise UsageError("precision: got bf16, which this CPU does not compute; take fp32 or int8")
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,  # each call uses all threads: lowest latency, one set of buffers
            # With pinning, two processes would use the same first cores and leave the others idle.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 or (bf16 is None and has_bf16) else "f32",
        }
        model = core.read_model(str(path)) if content is None else core.read_model(content, b"")
        if network:
            model = _after_log_mel(openvino, model)
        _quantise_before_unsqueeze(model)
        compiled = core.compile_model(model, "CPU", options)
        self._request = compiled.create_infer_request()
        self._tensor = openvino.Tensor
        self._turn = Lock()
        self.version: str = openvino.__version__.split("-")[0]
        self.providers: list[str] = [f"CPU, {compiled.get_property('INFERENCE_PRECISION_HINT').get_type_name()}"]

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """[batch, ...] float32 -> [batch, ...] float32; the graph defines the other dimensions."""
        # Passing a tensor avoids a type dispatch that takes as long as the rest of the call in Python.
        inputs = self._tensor(np.require(batch, requirements=("C", "W")), shared_memory=True)
        with self._turn:
            # Copied, because the next call overwrites the request's output.
            return np.array(self._request.infer(inputs, share_outputs=True)[0])


def _after_log_mel(openvino: Any, model: Any) -> Any:
    """The part of an embedder graph after the log-mel; the whole graph if its input is log-mel."""
    logarithms = [node for node in model.get_ops() if node.get_type_name() == "Log"]
    if not logarithms:
        return model
    (log_mel,) = (node.output(0) for node in logarithms)
    source = openvino.opset13.parameter(log_mel.get_partial_shape(), openvino.Type.f32)
    for reader in log_mel.get_target_inputs():
        reader.replace_source_output(source.output(0))
    return openvino.Model(model.get_results(), [source])


def _quantise_before_unsqueeze(model: Any) -> None:
    """Make an INT8 network quantise log-mels [batch, frames, 64] before they become an image [batch, 1, frames, 64].

    OpenVINO's kernel for images works on blocks of 16 channels, 15 of which would be zeros here: writing and reading
    them took a seventh of `yamnet-compact`'s time. In bfloat16 it would also round the log-mels first.
    """
    quantise = next((node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"), None)
    if quantise is None or quantise.input_value(0).get_node().get_type_name() != "Unsqueeze":
        return
    image = quantise.input_value(0).get_node()
    last = quantise  # the last node of the quantisation and its dequantisation
    while (readers := list(last.output(0).get_target_inputs()))[0].get_node().get_type_name() in DEQUANTISING:
        last = readers[0].get_node()
    quantise.input(0).replace_source_output(image.input_value(0))
    for reader in readers:
        reader.replace_source_output(image.output(0))
    image.input(0).replace_source_output(last.output(0))
    model.validate_nodes_and_infer_types()


def openvino_core() -> Any:
    """An `openvino.Core` that has opened the CPU. UsageError: OpenVINO is not installed."""
    core = load_openvino().Core()
    with kept_signal_stack():
        core.get_property("CPU", "FULL_DEVICE_NAME")
    return core


def load_openvino() -> Any:
    """Import openvino without its telemetry. UsageError: it is not installed."""
    if sys.modules.get("openvino"):
        return sys.modules["openvino"]
    sys.modules[TELEMETRY_MODULE] = None  # pyright: ignore[reportArgumentType]
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise UsageError(
            f"openvino is not installed; get it with: {pip_install('openvino')}, or take the backend onnxruntime"
        ) from error
    finally:
        sys.modules.pop(TELEMETRY_MODULE, None)
