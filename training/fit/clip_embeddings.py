"""Embeddings of whole clips, and what the training head makes of them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.data.windows import ClipSet
from training.networks import Network

CLIPS_PER_BATCH = 16


@torch.inference_mode()
def embed_clips(network: Network, clips: ClipSet, device: torch.device) -> Tensor:
    """Each clip's embedding, the mean over its windows: [n_clips, 128] on the CPU. Puts the network in eval mode."""
    network.eval()
    rows = []
    for batch in np.array_split(clips.clips, -(-len(clips.clips) // CLIPS_PER_BATCH)):
        windows = [torch.from_numpy(clips.frames.cut(int(clip))) for clip in batch]
        embeddings = network.embed(torch.cat(windows).to(device))  # [n_windows of all, 128]
        rows += [part.mean(dim=0) for part in embeddings.split([len(part) for part in windows])]
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
