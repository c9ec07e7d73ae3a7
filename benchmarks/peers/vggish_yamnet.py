"""torch-vggish-yamnet (PyPI): Google's whole YAMNet and VGGish in PyTorch, after torchaudio's front end.

As its documentation shows: WaveformToInput, then the model. Its weights are fetched from the network, so that here
they are fresh ones.
"""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_vggish_yamnet import vggish, yamnet
from torch_vggish_yamnet.input_proc import CommonParams, WaveformToInput

from benchmarks.peers.eager import count_layers, count_macs, read_tensor, runner
from benchmarks.peers.peer import Computes, Peer, Setting, make_peer


def peers(setting: Setting) -> Iterator[Peer]:
    """Its YAMNet, 1024 numbers a window, and its VGGish, 128."""
    torch.manual_seed(0)
    model = yamnet.yamnet(pretrained=False).eval()

    def embed(patches: Tensor) -> Tensor:
        return model(patches)[0].flatten(1)  # the embedding; it computes its 521 class scores too

    yield _peer(setting, "yamnet", embed, model)
    model_vggish = vggish.get_vggish(with_classifier=False, pretrained=False).eval()
    yield _peer(setting, "vggish", model_vggish, model_vggish)


def _peer(setting: Setting, network: str, embed, model: nn.Module) -> Peer:
    converter = WaveformToInput()

    def decode(path: Path) -> NDArray[np.float32]:
        with torch.inference_mode():
            return converter(*read_tensor(path)).numpy()  # [n_windows, 1, 96, 64]

    example = torch.from_numpy(decode(setting.sample))
    computes = Computes(
        layers=count_layers(model),
        windows=len(example),
        window_s=CommonParams.PATCH_WINDOW_IN_SECONDS,
        network_macs=count_macs(embed, example),
        front_end_macs=None,
        resampler="torchaudio sinc",
        front_end="torchaudio MelSpectrogram",
        runtime=f"torch-vggish-yamnet {version('torch-vggish-yamnet')}, PyTorch {torch.__version__}",
        weights="untrained",
    )
    name = f"torch-vggish-yamnet, {network}"
    return make_peer(name, network, computes, decode, runner(embed), setting.threads)
