"""Waveforms whose embeddings a bundle stores: an exported model, and each runtime of it, must agree on them."""

import numpy as np
from numpy.typing import NDArray

from serving.audio import Window


def probe_windows(window: Window) -> tuple[list[str], NDArray[np.float32]]:
    """Names [n] and windows [n, samples] float32: silence, tones, noise, square waves, single samples."""
    time = np.arange(window.samples) / window.rate_hz
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(window.samples)
    first = np.zeros(window.samples)
    first[0] = 1.0
    last = np.zeros(window.samples)
    last[-1] = -1.0
    probes = {
        "silence": np.zeros(window.samples),
        "one sample at the start": first,
        "one sample at the end": last,
        "constant offset": np.full(window.samples, 0.5),
        "tone 100 Hz": 0.5 * np.sin(2 * np.pi * 100 * time),
        "tone 1 kHz": 0.5 * np.sin(2 * np.pi * 1_000 * time),
        "tone 7.4 kHz, full scale": np.sin(2 * np.pi * 7_400 * time),
        "chirp 50 Hz to 8 kHz": 0.8 * np.sin(2 * np.pi * (50 * time + (7_950 / 2) * time**2 / time[-1])),
        "noise, -80 dB": 1e-4 * noise,
        "noise, -40 dB": 1e-2 * noise,
        "noise, full scale": np.clip(0.3 * noise, -1, 1),
        "square 440 Hz, full scale": np.sign(np.sin(2 * np.pi * 440 * time + 1e-3)),
        "square 4 kHz, full scale": np.tile([1.0, 1.0, -1.0, -1.0], window.samples // 4 + 1)[: window.samples],
        "alternating samples, full scale": np.where(np.arange(window.samples) % 2, -1.0, 1.0),
        "noise in the first half, then silence": np.where(time < time[-1] / 2, np.clip(0.3 * noise, -1, 1), 0.0),
    }
    return list(probes), np.stack(list(probes.values())).astype(np.float32)
