"""The parameters of the log-mel front end: frames, mel filters, log offset. This is their only definition.

They equal those of Google's VGGish (tensorflow/models, research/audioset). YAMNet's differ in the log offset, which is
0.001. The study, and so every run that starts from random weights, uses 0.01 for both networks; a run that starts from
YAMNet's weights uses 0.001. PyTorch and every exported graph compute the front end with training.log_mel_module.LogMel;
serving.backends.fft_front_end computes it where an FFT is faster.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.audio import Window

MELS, BREAK_HZ = 1127.0, 700.0  # mel = MELS ln(1 + f / BREAK_HZ)


@dataclass(frozen=True)
class LogMelConfig:
    """All parameters of the front end; derived sizes are properties. Runs and bundles store all of them.

    log_offset   added to a mel band's magnitude before the log
    """

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
        """Samples in a frame: 400 for 25 ms at 16 kHz."""
        return round(self.window_s * self.rate_hz)

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next: 160 for 10 ms at 16 kHz."""
        return round(self.hop_s * self.rate_hz)

    @property
    def silence(self) -> float:
        """The log-mel value of digital silence: ln(log_offset)."""
        return float(np.log(self.log_offset))

    def frames(self, n_samples: int) -> int:
        """Number of frames in n_samples. Nothing is padded; an incomplete last frame is dropped."""
        return max(0, 1 + (n_samples - self.window_samples) // self.hop_samples)

    def network_window(self, n_frames: int) -> Window:
        """The window of a network whose input is n_frames frames: 480 -> 77 040 samples, hop 76 800."""
        samples = (n_frames - 1) * self.hop_samples + self.window_samples
        return Window(self.rate_hz, samples, n_frames * self.hop_samples)


def mel_weights(config: LogMelConfig) -> NDArray[np.float64]:
    """Triangular filters, linear in mel (not in Hz), of height 1. [fft_bins // 2 + 1, mel_bands] float64.

    mel = 1127 ln(1 + f / 700); the DC bin has the weight 0.
    Source: mel_features.spectrogram_to_mel_matrix in tensorflow/models, research/audioset/vggish.
    """
    bins_mel = _mel(np.linspace(0, config.rate_hz / 2, config.fft_bins // 2 + 1))
    edges = mel_edges(config)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins_mel[:, None] - low) / (centre - low)
    falling = (high - bins_mel[:, None]) / (high - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


def used_bins(weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the DFT bins with a weight in any mel band, of filters [fft_bins // 2 + 1, mel_bands]."""
    return np.flatnonzero(weights.any(axis=1))


def mel_edges(config: LogMelConfig) -> NDArray[np.float64]:
    """Where the filters begin, peak and end, in mel: filter k at edges k, k + 1 and k + 2. [mel_bands + 2] float64."""
    return np.linspace(_mel(config.low_hz), _mel(config.high_hz), config.mel_bands + 2)


def _mel(hertz):
    return MELS * np.log1p(np.asarray(hertz) / BREAK_HZ)
