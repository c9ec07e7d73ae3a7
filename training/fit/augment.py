"""Augmentation of a batch of log-mel windows. All randomness comes from the generator that is passed."""

import numpy as np
import torch
from torch import Tensor

SILENCE = 1e-3  # a sum of mel magnitudes far below that of any sound, so that no loudness is 0


def random_gain(log_mel: Tensor, rng: np.random.Generator, max_db: float, log_offset: float) -> Tensor:
    """Change each window's level by up to max_db up or down, as if its waveform had been scaled.

    log_mel  [batch, frames, 64], ln(mel + log_offset)
    """
    gain_db = rng.uniform(-max_db, max_db, size=(len(log_mel), 1, 1))
    gain = torch.from_numpy(10.0 ** (gain_db / 20.0)).to(log_mel)
    mel = torch.exp(log_mel) - log_offset
    return torch.log(torch.clamp(mel * gain, min=0.0) + log_offset)


def mixup(log_mel: Tensor, targets: Tensor, rng: np.random.Generator, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix each window and its target with another window of the batch and its target.

    log_mel  [batch, frames, 64];  targets [batch, n_classes], rows that sum to 1
    alpha    the window's share in its mixture is drawn from Beta(alpha, alpha); 0 mixes nothing
    Source: Zhang 2018 (arXiv:1710.09412).
    """
    if alpha == 0:
        return log_mel, targets
    share, other = _partners(log_mel, rng, alpha)
    return _blend(log_mel, log_mel[other], share, 1 - share), _blend(targets, targets[other], share, 1 - share)


def mix_sounds(
    log_mel: Tensor, targets: Tensor, rng: np.random.Generator, alpha: float, log_offset: float
) -> tuple[Tensor, Tensor]:
    """Like `mixup`, but the magnitudes are mixed, after the sounds are made equally loud, and not their logarithms.

    log_mel  [batch, frames, 64], ln(mel + log_offset)
    The loudness of a window is that of its loudest frame. Magnitudes are added as if the sounds were in phase.
    Source: between-class learning (Tokozume 2018, arXiv:1711.10282), which mixes waveforms.
    """
    if alpha == 0:
        return log_mel, targets
    share, other = _partners(log_mel, rng, alpha)
    mel = torch.exp(log_mel) - log_offset
    loudness = mel.sum(dim=2).amax(dim=1) + SILENCE
    own, others = share * loudness[other], (1 - share) * loudness
    length = torch.sqrt(own**2 + others**2)  # keeps the energy of sounds that are not in phase
    mixed = _blend(mel, mel[other], own / length, others / length)
    return torch.log(torch.clamp(mixed, min=0.0) + log_offset), _blend(targets, targets[other], share, 1 - share)


def _partners(log_mel: Tensor, rng: np.random.Generator, alpha: float) -> tuple[Tensor, Tensor]:
    """Each window's share in its mixture [batch], and the index of the window that it is mixed with [batch]."""
    share = torch.from_numpy(rng.beta(alpha, alpha, size=len(log_mel))).to(log_mel)
    return share, torch.from_numpy(rng.permutation(len(log_mel))).to(log_mel.device)


def _blend(own: Tensor, other: Tensor, own_share: Tensor, other_share: Tensor) -> Tensor:
    """own * own_share + other * other_share for each row; the shares are [batch]."""
    shape = (-1, *[1] * (own.dim() - 1))
    return own * own_share.view(shape) + other * other_share.view(shape)
