"""LogMel: waveform -> log-mel. The only definition of the front end.

It equals the features of Google's VGGish and YAMNet (tensorflow/models, research/audioset), and uses
real-valued operators only, so that every ONNX runtime and TensorRT can run it as part of the network's graph.
"""

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


def dft_basis(config: LogMelConfig, bins: NDArray[np.intp]) -> NDArray[np.float64]:
    """Real and imaginary rows of the windowed DFT. [2 * n_bins, window_samples] float64.

    Periodic Hann over window_samples, then a DFT of fft_bins points (the zero padding drops out).
    """
    time = np.arange(config.window_samples)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / config.window_samples)
    angle = 2 * np.pi * np.outer(bins, time) / config.fft_bins
    return np.concatenate([np.cos(angle) * hann, -np.sin(angle) * hann])


class LogMel(nn.Module):
    """waveform [batch, n_samples] float32 in [-1, 1] -> log-mel [batch, n_frames, mel_bands] float32.

    Magnitude (not power) spectrum, mel filters, natural log of (mel + log_offset). Always FP32: the power
    spectrum overflows FP16. Only the DFT bins that some mel band uses are computed.
    """

    basis: Tensor
    mel: Tensor

    def __init__(self, config: LogMelConfig):
        super().__init__()
        self.config = config
        weights = mel_weights(config)
        used = np.flatnonzero(weights.any(axis=1))
        basis = dft_basis(config, used)[:, None, :]  # [2 * n_bins, 1, window_samples]
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32), persistent=False)
        self.register_buffer("mel", torch.tensor(weights[used], dtype=torch.float32), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        spectrum = nn.functional.conv1d(waveform.unsqueeze(1), self.basis, stride=self.config.hop_samples)
        real, imaginary = spectrum.chunk(2, dim=1)  # each [batch, n_bins, n_frames]
        magnitude = torch.sqrt(real * real + imaginary * imaginary).transpose(1, 2)
        return torch.log(magnitude @ self.mel + self.config.log_offset)  # [batch, n_frames, mel_bands]
