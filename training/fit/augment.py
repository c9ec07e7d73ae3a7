"""Augmentation of a batch of log-mel windows: what is drawn at random (NumPy), and what is computed with it (PyTorch).

They are separate so that a step on a GPU needs only the small arrays that are drawn.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from serving.log_mel import BREAK_HZ, MELS, LogMelConfig, mel_edges

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


def draw_speeds(rng: np.random.Generator, count: int, largest: float) -> NDArray[np.float64]:
    """How many times as fast each window is played [count], from 1 / largest to largest."""
    return np.exp(rng.uniform(-np.log(largest), np.log(largest), size=count))


def frames_read(frames: int, largest: float) -> int:
    """The number of frames that `change_speed` reads for windows of `frames` frames."""
    return int(np.ceil((frames - 1) * largest)) + 1


def change_speed(log_mel: Tensor, speeds: Tensor, frames: int, config: LogMelConfig) -> Tensor:
    """Play each window at another speed, as a tape: time and pitch change together. [batch, frames, 64].

    log_mel  [batch, at least frames_read(frames, largest speed), 64];  speeds [batch], see `draw_speeds`
    The log-mel at time t and frequency f is that of the recording at speed * t and f / speed, interpolated; beyond the
    outer bands, theirs.
    Source: speed perturbation (Ko 2015), which resamples waveforms.
    """
    times = torch.arange(frames, device=log_mel.device) * speeds[:, None]
    edges = mel_edges(config)
    low, step = float(edges[0]), float((edges[-1] - edges[0]) / (config.mel_bands + 1))
    centres = torch.arange(1, config.mel_bands + 1, device=log_mel.device) * step + low
    hertz = BREAK_HZ * torch.expm1(centres / MELS) / speeds[:, None]
    bands = (MELS * torch.log1p(hertz / BREAK_HZ) - low) / step - 1.0
    return _interpolate(_interpolate(log_mel, times, 1), bands, 2)


def _interpolate(values: Tensor, positions: Tensor, dim: int) -> Tensor:
    """Values [batch, n, m] at positions [batch, k] between the indices of a dimension, 1 or 2."""
    positions = positions.clamp(0, values.shape[dim] - 1)
    low = positions.floor().long()
    high = (low + 1).clamp(max=values.shape[dim] - 1)
    other = values.shape[3 - dim]
    shape = (-1, -1, other) if dim == 1 else (-1, other, -1)
    low, high, share = (each.unsqueeze(3 - dim) for each in (low, high, positions - low))
    return torch.lerp(values.gather(dim, low.expand(shape)), values.gather(dim, high.expand(shape)), share)


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
