"""Write the README of a model in a Triton repository: how to start Triton and how to send requests."""

from pathlib import Path
from string import Template

from serving.backends.engine_sidecar import EngineTensor, Sidecar
from serving.bundle.manifest import Manifest

TEMPLATE = Path(__file__).with_suffix(".md")
RELEASE = "26.06"  # Triton container
MATRIX = "https://docs.nvidia.com/deeplearning/frameworks/support-matrix/"

ONNX_NEEDS = """Without a GPU, leave out `--gpus all`. The model is an ONNX file of opset 20, which every Triton release
with ONNX Runtime 1.17 or newer runs."""
ENGINE_NEEDS = """The model is a TensorRT engine. It runs only on GPUs of compute capability {compute_capability}, and
only in a Triton release with TensorRT {version}, see <{matrix}>."""

FRONT_END = """from pathlib import Path
from serving.backends.onnxruntime import OnnxRuntime
windows = OnnxRuntime(Path("BUNDLE/frontend.onnx"), threads=1)(windows)    # [n, frames, 64]
"""


def readme(
    name: str, manifest: Manifest, source: EngineTensor, target: EngineTensor, max_batch: int, sidecar: Sidecar | None
) -> str:
    """Describe a model in Markdown.

    source, target   the model's input and output
    max_batch        maximum number of rows in one request
    sidecar          of the engine; None: the model is an ONNX file
    """
    window = manifest.window
    needs = ONNX_NEEDS
    if sidecar is not None:
        needs = ENGINE_NEEDS.format(
            compute_capability=sidecar.compute_capability, version=sidecar.version, matrix=MATRIX
        )
    return Template(TEMPLATE.read_text()).substitute(
        name=name,
        network=manifest.network,
        dataset=manifest.dataset,
        license=manifest.license,
        embedding_space=manifest.embedding_space[:16],
        input=source.name,
        input_sizes=_sizes(source),
        output=target.name,
        output_sizes=_sizes(target),
        size=target.shape[1],
        samples=window.samples,
        rate_hz=window.rate_hz,
        hop_samples=window.hop_samples,
        max_batch=max_batch,
        release=RELEASE,
        needs=needs,
        front_end=FRONT_END if manifest.input == "log_mel" else "",
    )


def _sizes(tensor: EngineTensor) -> str:
    return ", ".join(map(str, tensor.shape[1:]))
