"""torchvggish (PyPI): Google's NumPy front end after resampy, then VGGish in PyTorch, without its postprocessing.

Its weights are fetched from the network, so that here they are fresh ones.
"""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torchvggish import vggish_params
from torchvggish.torchvggish import VGG, make_layers
from torchvggish.vggish_input import wavfile_to_examples

from benchmarks.peers.eager import count_layers, count_macs, runner
from benchmarks.peers.peer import Computes, Peer, Setting, make_peer


def peers(setting: Setting) -> Iterator[Peer]:
    """Its one network."""
    torch.manual_seed(0)
    model = VGG(make_layers(), postprocess=False).eval()
    example = torch.from_numpy(_decode(setting.sample))
    computes = Computes(
        layers=count_layers(model),
        windows=len(example),
        window_s=vggish_params.EXAMPLE_WINDOW_SECONDS,
        network_macs=count_macs(model, example),
        front_end_macs=None,
        resampler="resampy kaiser_best",
        front_end="NumPy FFT",
        runtime=f"torchvggish {version('torchvggish')}, PyTorch {torch.__version__}",
        weights="untrained",
    )
    yield make_peer("torchvggish", "vggish", computes, _decode, runner(model), setting.threads)


def _decode(path: Path) -> NDArray[np.float32]:
    examples = wavfile_to_examples(str(path))  # [n_windows, 1, 96, 64]
    assert isinstance(examples, torch.Tensor)
    return examples.detach().numpy()
