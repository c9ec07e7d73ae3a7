"""Refuse FP16 for a network whose hidden numbers FP16 does not hold.

On a CPU, ONNX Runtime computes an FP16 file without an overflow, where a GPU gives infinity: the comparison of the
embeddings alone cannot find it. So the FP32 network's numbers are measured, wherever the FP16 file has FP16 tensors.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.graph import Embedder
from export.parity.samples import spread
from serving.errors import UsageError
from serving.progress import track

MOST = float(torch.finfo(torch.float16).max) / 2  # 32752: other sounds can be louder inside than the ones measured
MAX_WINDOWS = 128  # of recordings, beside all probes
BATCH = 8


def refuse_overflow(
    embedder: Embedder, log_mel: nn.Module, names: Sequence[str], windows: NDArray[np.float32], n_probes: int
) -> None:
    """Run a network in FP32, and refuse it for FP16 if a number in it is too large.

    embedder  with BatchNorm folded, as it is converted to FP16
    log_mel   the front end
    names     of the windows [n, samples], the first n_probes of which are probes
    errors    UsageError: which names the layer and the sound
    """
    chosen = [*range(n_probes), *spread(range(n_probes, len(windows)), MAX_WINDOWS)]
    largest: dict[str, tuple[float, str]] = {}  # layer -> its largest |number|, and the window
    rows: list[int] = []

    def note(layer: str, values: Tensor) -> None:
        peaks = values.detach().abs().reshape(len(values), -1).amax(dim=1).nan_to_num(torch.inf, torch.inf)
        worst = int(peaks.argmax())
        if float(peaks[worst]) > largest.get(layer, (-1.0, ""))[0]:
            largest[layer] = float(peaks[worst]), names[rows[worst]]

    def hook(layer: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: note(layer, output)

    parts = {"features": embedder.features, "embedding": embedder.embedding}
    hooks = [
        module.register_forward_hook(hook(f"{part}.{name}".rstrip(".")))
        for part, parent in parts.items()
        for name, module in parent.named_modules()
    ]
    try:
        with torch.inference_mode():
            for start in track(range(0, len(chosen), BATCH), "numbers that FP16 must hold"):
                rows = chosen[start : start + BATCH]
                log_mels = log_mel(torch.from_numpy(windows[rows]))
                note("log_mel", log_mels)
                embedder.embedding(embedder.features(log_mels.unsqueeze(1)))
    finally:
        for each in hooks:
            each.remove()
    for layer, (value, name) in largest.items():  # in the order in which they are computed
        if value > MOST:
            raise UsageError(
                f"--precision fp16: {layer} reaches {value:.0f} for {name}; wanted at most {MOST:.0f}, half of FP16's "
                "largest number, beyond which a GPU computes infinity; leave fp16 out"
            )
