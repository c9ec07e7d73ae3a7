"""What training does to a batch of log-mel windows before the network sees it. Each takes its own generator."""

import numpy as np
import torch
from torch import Tensor


def random_gain(log_mel: Tensor, rng: np.random.Generator, max_db: float, log_offset: float) -> Tensor:
    """Make each window louder or softer by up to max_db, as if its waveform had been scaled.

    log_mel  [batch, frames, 64], ln(mel + log_offset)
    """
    gain_db = rng.uniform(-max_db, max_db, size=(len(log_mel), 1, 1))
    gain = torch.from_numpy(10.0 ** (gain_db / 20.0)).to(log_mel)
    mel = torch.exp(log_mel) - log_offset
    return torch.log(torch.clamp(mel * gain, min=0.0) + log_offset)


def mixup(log_mel: Tensor, targets: Tensor, rng: np.random.Generator, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix each window and its target with those of another window of the batch.

    log_mel  [batch, frames, 64];  targets [batch, n_classes], rows that sum to 1
    alpha    of Beta(alpha, alpha), from which the share of the other window is drawn; 0 mixes nothing
    Source: Zhang 2018 (arXiv:1710.09412).
    """
    if alpha == 0:
        return log_mel, targets
    share = torch.from_numpy(rng.beta(alpha, alpha, size=len(log_mel))).to(log_mel)
    other = torch.from_numpy(rng.permutation(len(log_mel))).to(log_mel.device)
    a, b = share[:, None, None], share[:, None]
    return a * log_mel + (1 - a) * log_mel[other], b * targets + (1 - b) * targets[other]
