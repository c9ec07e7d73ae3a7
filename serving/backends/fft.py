"""The front end by FFT, for CPUs: SciPy takes about half of the time of a graph's matrix products.

No ONNX runtime has an FFT that is as fast, so a graph multiplies by the DFT's matrix (training.frontend).

In FP64 up to the spectrum: an FP32 FFT's rounding is a share of the whole frame's energy, so that in the bands that a
full-scale tone leaves empty it reached 8e-4 of a log-mel and 4.9e-4 of an embedding, eight times the graph's. FP64
takes 0.2 ms a 5 s clip more and leaves 4e-7.
"""

from threading import local
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from serving.errors import UsageError
from serving.frontend import LogMelConfig, mel_weights

# Computed at a time: they and their spectra, 2 MB, stay near a core; and each step of NumPy's asks for Python's lock
# when it ends, which two threads lose time with: in parts of 120 frames they were hardly faster than one.
PART_FRAMES = 256


class FftLogMel:
    """waveforms [batch, n_samples] float32 in [-1, 1] -> log-mel [batch, n_frames, mel_bands] float32.

    errors   UsageError: SciPy is not installed

    In the caller's thread: what two gain here they lose to each other's turns in Python. Safe to call from several.
    """

    def __init__(self, config: LogMelConfig):
        try:  # an optional extra, as OpenVINO itself
            from scipy.fft import rfft
            from scipy.sparse import csr_array
        except ImportError as error:
            raise UsageError(
                'scipy is not installed; get it with: pip install "unheard[openvino]", or take --backend onnxruntime'
            ) from error
        self._rfft = rfft
        self._config = config
        turns = np.arange(config.window_samples) / config.window_samples
        self._hann = 0.5 - 0.5 * np.cos(2 * np.pi * turns)
        weights = mel_weights(config)
        first, *_, last = np.flatnonzero(weights.any(axis=1)).tolist()
        self._bins = slice(first, last + 1)
        # A bin is in two bands at most. Nor would a dense product stay in this thread.
        self._mel = csr_array(weights[self._bins].astype(np.float32))
        self._scratch = local()  # of each thread: frames; what follows them stays zero

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See the class."""
        frames = sliding_window_view(batch, self._config.window_samples, axis=1)[:, :: self._config.hop_samples]
        log_mel = np.empty((*frames.shape[:2], self._config.mel_bands), np.float32)
        n_parts = -(-frames.shape[1] // PART_FRAMES)
        for window, out in zip(frames, log_mel, strict=True):
            for some, filled in zip(np.array_split(window, n_parts), np.array_split(out, n_parts), strict=True):
                self._fill(some, filled)
        return log_mel

    def _fill(self, frames: NDArray[np.float32], log_mel: NDArray[np.float32]) -> None:
        """[n_frames, window_samples] -> [n_frames, mel_bands], into log_mel."""
        if not hasattr(self._scratch, "padded"):
            self._scratch.padded = np.zeros((PART_FRAMES, self._config.fft_bins))
        padded = self._scratch.padded[: len(frames)]
        np.multiply(frames, self._hann, out=padded[:, : len(self._hann)])
        spectrum: Any = self._rfft(padded, axis=1)  # [n_frames, fft_bins // 2 + 1] complex128
        magnitude: Any = np.abs(spectrum[:, self._bins].astype(np.complex64))
        np.add(magnitude @ self._mel, np.float32(self._config.log_offset), out=log_mel)
        np.log(log_mel, out=log_mel)
