"""Embeddings of whole clips, and what the training head makes of them."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.clip_frames import ClipSet
from training.networks import Network

CLIPS_PER_BATCH = 16
MOST_WINDOWS = 256  # that the network takes at a time: a recording may have any length


@torch.inference_mode()
def embed_clips(network: Network, clips: ClipSet, device: torch.device) -> Tensor:
    """Each clip's embedding, the mean over its windows: [n_clips, 128] on the CPU. Puts the network in eval mode."""
    network.eval()
    return _means_of_windows(network.embed, clips, device)


@torch.inference_mode()
def clip_features(network: Network, clips: ClipSet, device: torch.device) -> Tensor:
    """As `embed_clips`, but the features before the embedding: [n_clips, n_features] on the CPU."""
    network.eval()
    return _means_of_windows(lambda log_mel: network.features(log_mel.unsqueeze(1)), clips, device)


def _means_of_windows(run: Callable[[Tensor], Tensor], clips: ClipSet, device: torch.device) -> Tensor:
    """The mean over each clip's windows. run: [n_windows, frames, 64] -> [n_windows, size]."""
    rows = []
    for batch in np.array_split(clips.clips, -(-len(clips.clips) // CLIPS_PER_BATCH)):
        windows = [torch.from_numpy(clips.frames.heard_windows(int(clip))) for clip in batch]
        of_all = torch.cat([run(part.to(device)) for part in torch.cat(windows).split(MOST_WINDOWS)])
        rows += [part.mean(dim=0) for part in of_all.split([len(part) for part in windows])]
    return torch.stack(rows).cpu()


@torch.inference_mode()
def head_loss_and_accuracy(
    network: Network, embeddings: Tensor, labels: NDArray[np.int64], device: torch.device
) -> tuple[float, float]:
    """Cross-entropy and accuracy (0 to 1) of the training head.

    network     in eval mode
    embeddings  [n_clips, 128];  labels [n_clips], indices into the seen classes
    """
    scores = network.classify(embeddings.to(device)).cpu()
    targets = torch.from_numpy(labels)
    return nn.functional.cross_entropy(scores, targets).item(), (scores.argmax(1) == targets).float().mean().item()
