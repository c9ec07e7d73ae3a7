"""Write the README of a model in a Triton repository: how to start Triton and how to send requests."""

from serving.backends.sidecar import Sidecar, Tensor
from serving.bundle import Manifest

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
    name: str, manifest: Manifest, source: Tensor, target: Tensor, max_batch: int, sidecar: Sidecar | None
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
    return f"""# {name}

{manifest.network} trained on {manifest.dataset}, for Triton Inference Server.

| | |
|---|---|
| input | {source.name} [batch, {_sizes(source)}] float32 |
| output | {target.name} [batch, {_sizes(target)}] float32 |
| window | {window.samples} samples, mono, {window.rate_hz} Hz; hop {window.hop_samples} samples |
| a clip's embedding | the mean of its windows' embeddings |
| embedding space | `{manifest.embedding_space[:16]}` |
| licence of the recordings | {manifest.license} |

## Start

In the model repository, which is the parent folder:

    docker run --rm --gpus all -p 8000:8000 -p 8001:8001 -p 8002:8002 -v "$PWD":/models \\
        nvcr.io/nvidia/tritonserver:{RELEASE}-py3 tritonserver --model-repository=/models

    curl --fail http://127.0.0.1:8000/v2/models/{name}/ready

{needs}

## Send requests

With `pip install "unheard[serve,triton]"`:

```python
import numpy as np
import tritonclient.http as triton
from serving.audio import Recording, Window

window = Window(rate_hz={window.rate_hz}, samples={window.samples}, hop_samples={window.hop_samples})
windows = Recording.from_file("recording.wav", window.rate_hz).windows(window)    # [n, {window.samples}]
{FRONT_END if manifest.input == "log_mel" else ""}
client = triton.InferenceServerClient("127.0.0.1:8000")
rows = []
for part in (windows[i : i + {max_batch}] for i in range(0, len(windows), {max_batch})):
    request = triton.InferInput("{source.name}", part.shape, "FP32")
    request.set_data_from_numpy(part)
    rows.append(client.infer("{name}", [request]).as_numpy("{target.name}"))
embedding = np.concatenate(rows).mean(axis=0)    # [{target.shape[1]}]
```

Triton combines requests that arrive within the delay in config.pbtxt into one batch. Port 8002 serves metrics.
"""


def _sizes(tensor: Tensor) -> str:
    return ", ".join(map(str, tensor.shape[1:]))
