"""LogMel: waveform -> log-mel, as part of every exported graph. Its numbers are those of serving.log_mel.

With log_offset 0.01 it equals the features of Google's VGGish (tensorflow/models, research/audioset), with 0.001 those
of YAMNet. It uses real-valued operators only, so that every ONNX runtime and TensorRT can run it as part of the
network's graph. serving.backends.fft_front_end is a second implementation; tests/training/test_frontend.py compares
the two.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.log_mel import LogMelConfig, mel_weights, used_bins


def folded_dft(config: LogMelConfig, bins: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The matrices of the windowed DFT for frames that are folded about their middle.

    returns  cosines and sines, each [window_samples // 2, n_bins]; row t multiplies the samples t after and t before
             the middle

    The periodic Hann window is an even function about the frame's middle. If phases are measured from the middle, the
    cosines are even and the sines odd. The sum of x cos over a frame then equals the sum of (after + before) cos over
    half a frame, and the sum of x sin equals that of (after - before) sin. Moving the origin changes the phases of the
    spectrum but not its magnitudes. The middle sample is in both halves, so its cosine is halved. The frame's first
    sample is left out because its Hann weight is 0.
    """
    half = config.window_samples // 2
    hann = 0.5 + 0.5 * np.cos(np.pi * np.arange(half) / half)  # the second half of the window, from its maximum
    angle = 2 * np.pi * np.outer(np.arange(half), bins) / config.fft_bins
    cosines = np.cos(angle) * hann[:, None]
    cosines[0] /= 2
    return cosines, np.sin(angle) * hann[:, None]


class LogMel(nn.Module):
    """waveform [batch, n_samples] float32 in [-1, 1] -> log-mel [batch, n_frames, mel_bands] float32.

    Magnitude (not power) spectrum, mel filters, natural log of (mel + log_offset). Always FP32: the power
    spectrum overflows FP16. The DFT is a product of matrices, the operation that every runtime does fastest. It is
    computed from folded frames and only for the bins that a mel band uses, which takes a quarter of the multiplications
    of the whole DFT.
    """

    cosines: Tensor
    sines: Tensor
    mel: Tensor
    reverse: Tensor

    def __init__(self, config: LogMelConfig):
        super().__init__()
        self.config = config
        weights = mel_weights(config)
        used = used_bins(weights)
        cosines, sines = folded_dft(config, used)
        self._half = config.window_samples // 2
        # Samples in a block. The halves of all frames begin and end at a block's boundary.
        self._block = math.gcd(config.hop_samples, self._half)
        buffers = {"cosines": cosines, "sines": sines, "mel": weights[used], "reverse": np.eye(self._block)[::-1]}
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(value.copy(), dtype=torch.float32), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        after, before = self._halves(waveform)
        real, imaginary = (after + before) @ self.cosines, (after - before) @ self.sines  # [batch, n_frames, n_bins]
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        return torch.log(magnitude @ self.mel + self.config.log_offset)  # [batch, n_frames, mel_bands]

    def _halves(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """The halves of each frame, read from the middle forwards and from the middle backwards.

        Each is [batch, n_frames, window_samples // 2].
        """
        last = self.config.frames(waveform.shape[1]) - 1
        count, step = self._half // self._block, self.config.hop_samples // self._block  # blocks in a half, in a hop
        size = ((last * step + count), self._block)
        after = waveform[:, self._half :][:, : math.prod(size)].unflatten(1, size)
        # A product with the reversed identity: OpenVINO needs four times as long for a slice with a step of -1.
        before = waveform[:, 1:][:, : math.prod(size)].unflatten(1, size) @ self.reverse
        blocks = [slice(i, i + last * step + 1, step) for i in range(count)]  # the i-th block of each frame
        return (
            torch.cat([after[:, block] for block in blocks], dim=2),
            torch.cat([before[:, block] for block in reversed(blocks)], dim=2),
        )
