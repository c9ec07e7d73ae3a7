"""Augmentation of a batch of log-mel windows: what is drawn at random (NumPy), and what is computed with it (PyTorch).

They are separate so that a step on a GPU needs only the small arrays that are drawn.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SILENCE = 1e-3  # a sum of mel magnitudes far below that of any sound, so that no loudness is 0


def draw_gains(rng: np.random.Generator, count: int, max_db: float) -> NDArray[np.float64]:
    """A factor for each window's magnitudes [count], up to max_db up or down."""
    return 10.0 ** (rng.uniform(-max_db, max_db, size=count) / 20.0)


def random_gain(log_mel: Tensor, gains: Tensor, log_offset: float) -> Tensor:
    """Change each window's level, as if its waveform had been scaled.

    log_mel  [batch, frames, 64], ln(mel + log_offset);  gains [batch], see `draw_gains`
    """
    mel = torch.exp(log_mel) - log_offset
    return torch.log(torch.clamp(mel * gains.view(-1, 1, 1), min=0.0) + log_offset)


def draw_partners(rng: np.random.Generator, count: int, alpha: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Each window's share in its mixture [count], from Beta(alpha, alpha), and the window it is mixed with [count]."""
    return rng.beta(alpha, alpha, size=count), rng.permutation(count)


def mixup(log_mel: Tensor, targets: Tensor, share: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Mix each window and its target with another window of the batch and its target.

    log_mel  [batch, frames, 64];  targets [batch, n_classes], rows that sum to 1;  share, other: see `draw_partners`
    Source: Zhang 2018 (arXiv:1710.09412).
    """
    return _blend(log_mel, log_mel[other], share, 1 - share), _blend(targets, targets[other], share, 1 - share)


def mix_sounds(
    log_mel: Tensor, targets: Tensor, share: Tensor, other: Tensor, log_offset: float
) -> tuple[Tensor, Tensor]:
    """Like `mixup`, but the magnitudes are mixed, after the sounds are made equally loud, and not their logarithms.

    log_mel  [batch, frames, 64], ln(mel + log_offset)
    The loudness of a window is that of its loudest frame. Magnitudes are added as if the sounds were in phase.
    Source: between-class learning (Tokozume 2018, arXiv:1711.10282), which mixes waveforms.
    """
    mel = torch.exp(log_mel) - log_offset
    loudness = mel.sum(dim=2).amax(dim=1) + SILENCE
    own, others = share * loudness[other], (1 - share) * loudness
    length = torch.sqrt(own**2 + others**2)  # keeps the energy of sounds that are not in phase
    mixed = _blend(mel, mel[other], own / length, others / length)
    return torch.log(torch.clamp(mixed, min=0.0) + log_offset), _blend(targets, targets[other], share, 1 - share)


def _blend(own: Tensor, other: Tensor, own_share: Tensor, other_share: Tensor) -> Tensor:
    """own * own_share + other * other_share for each row; the shares are [batch]."""
    shape = (-1, *[1] * (own.dim() - 1))
    return own * own_share.view(shape) + other * other_share.view(shape)
