"""LogMel: waveform -> log-mel. The only definition of the front end.

It equals the features of Google's VGGish and YAMNet (tensorflow/models, research/audioset), and uses
real-valued operators only, so that every ONNX runtime and TensorRT can run it as part of the network's graph.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.audio import Window


@dataclass(frozen=True)
class LogMelConfig:
    """Every number of the front end; derived sizes are properties. Stored whole in runs and bundles."""

    rate_hz: int = 16_000
    window_s: float = 0.025
    hop_s: float = 0.010
    fft_bins: int = 512
    mel_bands: int = 64
    low_hz: float = 125.0
    high_hz: float = 7_500.0
    log_offset: float = 0.01

    @property
    def window_samples(self) -> int:
        """400"""
        return round(self.window_s * self.rate_hz)

    @property
    def hop_samples(self) -> int:
        """160"""
        return round(self.hop_s * self.rate_hz)

    @property
    def silence(self) -> float:
        """The log-mel value of digital silence: ln(log_offset)."""
        return float(np.log(self.log_offset))

    def frames(self, n_samples: int) -> int:
        """Whole frames in n_samples: no padding, an incomplete last frame is dropped."""
        return max(0, 1 + (n_samples - self.window_samples) // self.hop_samples)

    def network_window(self, n_frames: int) -> Window:
        """The window of a network that sees n_frames frames: 480 -> 77 040 samples, hop 76 800."""
        samples = (n_frames - 1) * self.hop_samples + self.window_samples
        return Window(self.rate_hz, samples, n_frames * self.hop_samples)


def mel_weights(config: LogMelConfig) -> NDArray[np.float64]:
    """Triangular filters, linear in mel (not in Hz), of height 1. [fft_bins // 2 + 1, mel_bands] float64.

    mel = 1127 ln(1 + f / 700); the DC bin weighs 0.
    Source: mel_features.spectrogram_to_mel_matrix in tensorflow/models, research/audioset/vggish.
    """
    bins_mel = _mel(np.linspace(0, config.rate_hz / 2, config.fft_bins // 2 + 1))
    edges = np.linspace(_mel(config.low_hz), _mel(config.high_hz), config.mel_bands + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins_mel[:, None] - low) / (centre - low)
    falling = (high - bins_mel[:, None]) / (high - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


def _mel(hertz):
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def folded_dft(config: LogMelConfig, bins: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines of the windowed DFT for frames folded about their middle: two of [window_samples // 2, n_bins].

    Row t belongs to the samples t after and t before the middle. The periodic Hann window is even about it, and with
    phases counted from there the cosines are even and the sines odd: x cos summed over a frame is (after + before) cos
    summed over half of it, x sin is (after - before) sin. Only phases differ from the usual DFT, not magnitudes. The
    middle is in both halves, so that its cosine counts half; the frame's first sample has the weight 0.
    """
    half = config.window_samples // 2
    hann = 0.5 + 0.5 * np.cos(np.pi * np.arange(half) / half)  # from its top at the middle
    angle = 2 * np.pi * np.outer(np.arange(half), bins) / config.fft_bins
    cosines = np.cos(angle) * hann[:, None]
    cosines[0] /= 2
    return cosines, np.sin(angle) * hann[:, None]


class LogMel(nn.Module):
    """waveform [batch, n_samples] float32 in [-1, 1] -> log-mel [batch, n_frames, mel_bands] float32.

    Magnitude (not power) spectrum, mel filters, natural log of (mel + log_offset). Always FP32: the power
    spectrum overflows FP16. Only the DFT bins that some mel band uses are computed, from folded frames: a quarter
    of the multiplications of the whole DFT. Matrix products are what every runtime does fastest.
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
        self._block = math.gcd(config.hop_samples, self._half)  # of samples: both halves of all frames are whole blocks
        buffers = {"cosines": cosines, "sines": sines, "mel": weights[used], "reverse": np.eye(self._block)[::-1]}
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(value.copy(), dtype=torch.float32), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        after, before = self._halves(waveform)
        real, imaginary = (after + before) @ self.cosines, (after - before) @ self.sines  # [batch, n_frames, n_bins]
        magnitude = torch.sqrt(real * real + imaginary * imaginary)
        return torch.log(magnitude @ self.mel + self.config.log_offset)  # [batch, n_frames, mel_bands]

    def _halves(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Each frame from its middle to its end, and to its begin: two of [batch, n_frames, window_samples // 2]."""
        last = self.config.frames(waveform.shape[1]) - 1
        count, step = self._half // self._block, self.config.hop_samples // self._block  # blocks of a half, of a hop
        size = ((last * step + count), self._block)
        after = waveform[:, self._half :][:, : math.prod(size)].unflatten(1, size)
        # As a product, for a slice with a step of -1 takes OpenVINO four times as long.
        before = waveform[:, 1:][:, : math.prod(size)].unflatten(1, size) @ self.reverse
        blocks = [slice(i, i + last * step + 1, step) for i in range(count)]  # the i-th of each frame
        return (
            torch.cat([after[:, some] for some in blocks], dim=2),
            torch.cat([before[:, some] for some in reversed(blocks)], dim=2),
        )
