"""LogMel: waveform -> log-mel in PyTorch and in every exported graph. serving.log_mel defines its parameters.

With log_offset 0.01 it equals the features of Google's VGGish (tensorflow/models, research/audioset), with 0.001 those
of YAMNet. It uses real-valued operators only, so that every ONNX runtime and TensorRT can run it as part of the
network's graph. serving.backends.fft is a second implementation; tests/test_frontend.py compares the two.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.log_mel import LogMelConfig, mel_weights


def folded_dft(config: LogMelConfig, bins: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines of the windowed DFT for frames folded at their middle: two of [window_samples // 2, n_bins].

    Row t belongs to the samples t after and t before the middle. The periodic Hann window is even about the middle. If
    phases are counted from there, the cosines are even and the sines odd: the sum of x cos over a frame is the sum of
    (after + before) cos over half of it, and the sum of x sin that of (after - before) sin. Magnitudes equal those of
    the usual DFT; only phases differ. The middle is in both halves, so its cosine is halved; the first sample of the
    frame has the weight 0.
    """
    half = config.window_samples // 2
    hann = 0.5 + 0.5 * np.cos(np.pi * np.arange(half) / half)  # from its top at the middle
    angle = 2 * np.pi * np.outer(np.arange(half), bins) / config.fft_bins
    cosines = np.cos(angle) * hann[:, None]
    cosines[0] /= 2
    return cosines, np.sin(angle) * hann[:, None]


class LogMel(nn.Module):
    """waveform [batch, n_samples] float32 in [-1, 1] -> log-mel [batch, n_frames, mel_bands] float32.

    Magnitude (not power) spectrum, mel filters, natural log of (mel + log_offset). Always FP32, because the power
    spectrum overflows FP16. Only the DFT bins that a mel band uses are computed, from folded frames: a quarter of the
    multiplications of the whole DFT. Matrix products are the fastest operation of every runtime.
    """

    cosines: Tensor
    sines: Tensor
    mel: Tensor
    reverse: Tensor

    def __init__(self, config: LogMelConfig):
        super().__init__()
        self.config = config
        weights = mel_weights(config)
        used = np.flatnonzero(weights.any(axis=1))
        cosines, sines = folded_dft(config, used)
        self._half = config.window_samples // 2
        self._block = math.gcd(config.hop_samples, self._half)  # samples; both halves of all frames are whole blocks
        buffers = {"cosines": cosines, "sines": sines, "mel": weights[used], "reverse": np.eye(self._block)[::-1]}
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(value.copy(), dtype=torch.float32), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        after, before = self._halves(waveform)
        real, imaginary = (after + before) @ self.cosines, (after - before) @ self.sines  # [batch, n_frames, n_bins]
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        return torch.log(magnitude @ self.mel + self.config.log_offset)  # [batch, n_frames, mel_bands]

    def _halves(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Each frame from its middle to its end, and to its start: two of [batch, n_frames, window_samples // 2]."""
        last = self.config.frames(waveform.shape[1]) - 1
        count, step = self._half // self._block, self.config.hop_samples // self._block  # blocks of a half, of a hop
        size = ((last * step + count), self._block)
        after = waveform[:, self._half :][:, : math.prod(size)].unflatten(1, size)
        # Reversed by a product: a slice with a step of -1 takes OpenVINO four times as long.
        before = waveform[:, 1:][:, : math.prod(size)].unflatten(1, size) @ self.reverse
        blocks = [slice(i, i + last * step + 1, step) for i in range(count)]  # the i-th of each frame
        return (
            torch.cat([after[:, block] for block in blocks], dim=2),
            torch.cat([before[:, block] for block in reversed(blocks)], dim=2),
        )
