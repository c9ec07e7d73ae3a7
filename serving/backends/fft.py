"""The front end by FFT, for CPUs: SciPy takes about half of the time of a graph's matrix products.

No ONNX runtime has an FFT that is as fast, so a graph multiplies by the DFT's matrix (training.log_mel_module). This is
a second implementation of the same front end, log offset included; tests/test_frontend.py holds the two together.

In FP64 up to the spectrum: an FP32 FFT's rounding is a share of the whole frame's energy, so that in the bands that a
full-scale tone leaves empty it reached 8e-4 of a log-mel and 4.9e-4 of an embedding, eight times the graph's. FP64
leaves 4e-7, and takes half as long again. A network in INT8 or bfloat16, which rounds a log-mel by up to 9e-3, gets
FP32. These are with a log offset of 0.01; with YAMNet's 0.001 an FP32 FFT was off by up to 8e-3, the graph by 1.5e-3.
"""

from dataclasses import dataclass
from itertools import pairwise
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cores import ONE_THREADS_PRODUCTS
from serving.errors import UsageError
from serving.log_mel import LogMelConfig, mel_weights

# Computed at a time: they and their spectra, 2 MB in FP64, stay near a core; and each step of NumPy's asks for Python's
# lock when it ends, which two threads lose time with: in parts of 120 frames they were hardly faster than one.
PART_FRAMES = 240


class FftLogMel:
    """waveforms [batch, n_samples] float32 in [-1, 1] -> log-mel [batch, n_frames, mel_bands] float32.

    precise  in FP64 up to the spectrum; False: in FP32, for a network that rounds its input far more
    errors   UsageError: SciPy is not installed

    In the caller's thread: what two gain here they lose to each other's turns in Python. Safe to call from several.
    """

    def __init__(self, config: LogMelConfig, precise: bool = True):
        try:  # an optional extra, as OpenVINO itself
            from scipy.fft import rfft
        except ImportError as error:
            raise UsageError(
                'scipy is not installed; get it with: pip install "unheard[openvino]", or take --backend onnxruntime'
            ) from error
        self._rfft = rfft
        self._config = config
        turns = np.arange(config.window_samples) / config.window_samples
        self._dtype = np.dtype(np.float64 if precise else np.float32)
        self._hann = (0.5 - 0.5 * np.cos(2 * np.pi * turns)).astype(self._dtype)
        self._groups = _group(mel_weights(config).astype(np.float32))
        self._n_bins = max(group.bins.stop for group in self._groups)  # the others are in no band
        self._scratch = local()  # of each thread

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See the class."""
        config = self._config
        batch = np.ascontiguousarray(batch)
        n_windows, n_samples = batch.shape
        n_frames = config.frames(n_samples)
        # Frames where they lie, of which NumPy's sliding_window_view would make as many in ten times the time.
        strides = (4 * n_samples, 4 * config.hop_samples, 4)
        frames = np.ndarray((n_windows, n_frames, config.window_samples), np.float32, batch, strides=strides)
        log_mel = np.empty((n_windows, n_frames, config.mel_bands), np.float32)
        for window, mel in zip(frames, log_mel, strict=True):
            for start in range(0, n_frames, PART_FRAMES):
                self._fill(window[start : start + PART_FRAMES], mel[start : start + PART_FRAMES])
        log_mel += np.float32(config.log_offset)
        return np.log(log_mel, out=log_mel)

    def _fill(self, frames: NDArray[np.float32], mel: NDArray[np.float32]) -> None:
        """[n_frames, window_samples] -> [n_frames, mel_bands], into mel."""
        if not hasattr(self._scratch, "arrays"):
            self._scratch.arrays = (
                np.zeros((PART_FRAMES, self._config.fft_bins), self._dtype),  # what follows a frame stays zero
                np.empty((PART_FRAMES, self._n_bins), np.float32),
            )
        padded, magnitude = (array[: len(frames)] for array in self._scratch.arrays)
        np.multiply(frames, self._hann, out=padded[:, : len(self._hann)])
        spectrum: Any = self._rfft(padded, axis=1)  # [n_frames, fft_bins // 2 + 1], as precise as padded
        np.abs(spectrum[:, : self._n_bins].astype(np.complex64, copy=False), out=magnitude)
        for group in self._groups:
            np.matmul(magnitude[:, group.bins], group.weights, out=mel[:, group.bands])


@dataclass(frozen=True)
class Neighbours:
    """Mel bands that lie side by side, and the bins that they hear. weights: [n_bins, n_bands] float32."""

    bands: slice
    bins: slice
    weights: NDArray[np.float32]


def _group(weights: NDArray[np.float32]) -> list[Neighbours]:
    """Groups of mel filters [fft_bins // 2 + 1, mel_bands], each as large as one thread multiplies.

    A bin is in two bands at most: of the 64 bands, four groups take a quarter of the products with all bins.
    """
    firsts = [0]
    for band in range(weights.shape[1]):
        if PART_FRAMES * _neighbours(weights, firsts[-1], band + 1).weights.size > ONE_THREADS_PRODUCTS:
            firsts.append(band)
    return [_neighbours(weights, first, last) for first, last in pairwise([*firsts, weights.shape[1]])]


def _neighbours(weights: NDArray[np.float32], first: int, last: int) -> Neighbours:
    heard = np.flatnonzero(weights[:, first:last].any(axis=1)).tolist()
    bins = slice(heard[0], heard[-1] + 1) if heard else slice(0, 0)
    return Neighbours(slice(first, last), bins, np.ascontiguousarray(weights[bins, first:last]))
