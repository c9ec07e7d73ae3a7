"""The families of peers, each opened only where its packages are installed."""

from collections.abc import Sequence
from importlib.util import find_spec

from benchmarks.peers import unheard
from benchmarks.peers.peer import Peer, Setting

# Family -> the packages without which it cannot be measured.
PACKAGES = {
    "Unheard": (),
    "eager PyTorch": ("torch", "torchaudio"),
    "torch-vggish-yamnet": ("torch", "torchaudio", "torch_vggish_yamnet"),
    "torchvggish": ("torch", "resampy", "torchvggish"),
    "librosa + ONNX Runtime": ("librosa",),
}
NOT_INSTALLED = "not installed: pip install .[peers]"


def open_peers(setting: Setting, families: Sequence[str], gpus: list[str]) -> tuple[list[Peer], dict[str, str]]:
    """The peers of these families, and for each family that cannot be opened why."""
    peers: list[Peer] = []
    absent: dict[str, str] = {}
    for family in families:
        lacking = [package for package in PACKAGES[family] if find_spec(package) is None]
        if lacking:
            absent[family] = f"{NOT_INSTALLED} (no {', '.join(lacking)})"
            continue
        if "torch" in PACKAGES[family]:
            import torch

            torch.set_num_threads(setting.threads)
        peers += _open(family, setting, gpus)
    return peers, absent


def _open(family: str, setting: Setting, gpus: list[str]) -> list[Peer]:
    # Imported one at a time: what is not measured need not be installed.
    match family:
        case "Unheard":
            return list(unheard.peers(setting, gpus))
        case "eager PyTorch":
            from benchmarks.peers import eager

            return list(eager.peers(setting))
        case "torch-vggish-yamnet":
            from benchmarks.peers import vggish_yamnet

            return list(vggish_yamnet.peers(setting))
        case "torchvggish":
            from benchmarks.peers import torchvggish

            return list(torchvggish.peers(setting))
        case _:
            from benchmarks.peers import librosa

            return list(librosa.peers(setting))
