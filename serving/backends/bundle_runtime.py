"""Put the front end and the network of a bundle together to a runtime."""

from serving.backends.runtime import Graph, Runtime, identity
from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import BF16, FRONT_END_MODEL
from serving.log_mel import LogMelConfig


def with_front_end(bundle: Bundle, network: Graph) -> Runtime:
    """A runtime for a graph of the bundle; the bundle's front end is added if the graph takes log-mel."""
    return Runtime(network, identity if bundle.manifest.input == "waveform" else open_front_end(bundle))


def open_front_end(bundle: Bundle) -> Graph:
    """The bundle's front end on the CPU: waveforms [batch, samples] -> log-mel [batch, frames, 64]. Can be pickled."""
    from serving.backends.onnxruntime import PickledGraph

    return PickledGraph(bundle.path(FRONT_END_MODEL), bundle.read_graph(FRONT_END_MODEL))


def open_openvino(bundle: Bundle, precision: str, threads: int) -> Runtime:
    """The bundle's model on OpenVINO in fp32, fp16, int8 or bf16, with the front end by FFT.

    errors   as `OpenVino`, `Bundle.model` and `FftLogMel`
    """
    from serving.backends.fft_front_end import FftLogMel
    from serving.backends.openvino import OpenVino

    # The layers of an INT8 model that stayed in FP32 run in bfloat16 if the CPU has it: 5 to 10 % faster, and the
    # embeddings hardly change.
    bf16 = None if precision == "int8" else precision == BF16
    path = bundle.model(precision)
    network = OpenVino(path, threads, bf16, network=True, content=bundle.read_graph(path.name))
    # INT8 and bfloat16 networks round log-mels by ten times the largest error of an FP32 FFT.
    precise = precision not in ("int8", BF16)
    return Runtime(network, FftLogMel(LogMelConfig(**bundle.manifest.front_end), precise))
