"""The front end by FFT, for CPUs: SciPy takes about half of the time of a graph's matrix products.

The ONNX runtimes have no FFT that is as fast, so an exported graph multiplies by the DFT matrix
(training.log_mel_module). This is a second implementation of the same front end; tests/training/test_frontend.py checks
that the two agree.

The spectrum is computed in FP64, which takes 1.5 times as long as FP32. The rounding error of an FP32 FFT is
proportional to the energy of the whole frame. For a full-scale tone, in bands without energy, it reached 8e-4 in the
log-mel and 4.9e-4 in the embedding, eight times the error of the graph; with FP64 it is 4e-7 (log offset 0.01). With
YAMNet's offset of 0.001, the log-mel error of FP32 was up to 8e-3, that of the graph 1.5e-3. Networks in INT8 and
bfloat16 get FP32, because they round log-mels by up to 9e-3 themselves.
"""

from dataclasses import dataclass
from itertools import pairwise
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.cores import ONE_THREADS_PRODUCTS
from serving.errors import UsageError
from serving.extras import pip_install
from serving.log_mel import LogMelConfig, mel_weights, used_bins

# Frames computed at once. They and their spectra take 2 MB in FP64, which fits a core's cache. Each NumPy call takes
# Python's lock when it ends: with parts of 120 frames, two threads were hardly faster than one.
PART_FRAMES = 240


class FftLogMel:
    """waveforms [batch, n_samples] float32 in [-1, 1] -> log-mel [batch, n_frames, mel_bands] float32.

    precise  compute the spectrum in FP64; False: in FP32, for networks that round their input more than that
    errors   UsageError: SciPy is not installed

    It runs in the calling thread; more threads gained nothing. Can be called from several threads at once, and pickled.
    """

    def __init__(self, config: LogMelConfig, precise: bool = True):
        try:  # installed with OpenVINO, as an optional extra
            from scipy.fft import rfft
        except ImportError as error:
            raise UsageError(
                f"scipy is not installed; get it with: {pip_install('openvino')}, or take the backend onnxruntime"
            ) from error
        self._rfft = rfft
        self._config, self._precise = config, precise
        turns = np.arange(config.window_samples) / config.window_samples
        self._dtype = np.dtype(np.float64 if precise else np.float32)
        self._hann = (0.5 - 0.5 * np.cos(2 * np.pi * turns)).astype(self._dtype)
        weights = mel_weights(config)
        self._groups = _group(weights)
        self._n_bins = int(used_bins(weights).max()) + 1
        self._scratch = local()  # buffers of each thread

    def __reduce__(self) -> tuple[Any, ...]:
        return FftLogMel, (self._config, self._precise)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute log-mels; see the class."""
        config = self._config
        batch = np.ascontiguousarray(batch)
        n_windows, n_samples = batch.shape
        n_frames = config.frames(n_samples)
        # A view of overlapping frames. NumPy's sliding_window_view takes ten times as long to make it.
        strides = (4 * n_samples, 4 * config.hop_samples, 4)
        frames = np.ndarray((n_windows, n_frames, config.window_samples), np.float32, batch, strides=strides)
        log_mel = np.empty((n_windows, n_frames, config.mel_bands), np.float32)
        for window, mel in zip(frames, log_mel, strict=True):
            for start in range(0, n_frames, PART_FRAMES):
                self._fill(window[start : start + PART_FRAMES], mel[start : start + PART_FRAMES])
        log_mel += np.float32(config.log_offset)
        return np.log(log_mel, out=log_mel)

    def _fill(self, frames: NDArray[np.float32], mel: NDArray[np.float32]) -> None:
        """Write the mel magnitudes of frames [n_frames, window_samples] into mel [n_frames, mel_bands]."""
        if not hasattr(self._scratch, "arrays"):
            self._scratch.arrays = (
                np.zeros((PART_FRAMES, self._config.fft_bins), self._dtype),  # columns after the frame stay zero
                np.empty((PART_FRAMES, self._n_bins), np.float32),
            )
        padded, magnitude = (array[: len(frames)] for array in self._scratch.arrays)
        np.multiply(frames, self._hann, out=padded[:, : len(self._hann)])
        spectrum: Any = self._rfft(padded, axis=1)  # [n_frames, fft_bins // 2 + 1], precision as padded
        np.abs(spectrum[:, : self._n_bins].astype(np.complex64, copy=False), out=magnitude)
        for group in self._groups:
            np.matmul(magnitude[:, group.bins], group.weights, out=mel[:, group.bands])


@dataclass(frozen=True)
class BandGroup:
    """Adjacent mel bands, the range of DFT bins that they use, and their weights [n_bins, n_bands] float32."""

    bands: slice
    bins: slice
    weights: NDArray[np.float32]


def _group(weights: NDArray[np.float64]) -> list[BandGroup]:
    """Split mel filters [fft_bins // 2 + 1, mel_bands] into groups whose products BLAS computes in one thread.

    A bin belongs to at most two bands, so products by group skip most zeros: for 64 bands, four groups take a quarter
    of the multiplications with all bins.
    """
    firsts = [0]
    for band in range(weights.shape[1]):
        if PART_FRAMES * _band_group(weights, firsts[-1], band + 1).weights.size > ONE_THREADS_PRODUCTS:
            firsts.append(band)
    return [_band_group(weights, first, last) for first, last in pairwise([*firsts, weights.shape[1]])]


def _band_group(weights: NDArray[np.float64], first: int, last: int) -> BandGroup:
    used = used_bins(weights[:, first:last])
    bins = slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0)
    return BandGroup(slice(first, last), bins, np.ascontiguousarray(weights[bins, first:last], np.float32))
