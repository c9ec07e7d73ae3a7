"""Sounds for the tests of the server, and the files that hold them."""

import io

import numpy as np
import soundfile


def harmonics(rate_hz: int, seconds: float = 5.5) -> np.ndarray:
    """22 partials below 7 kHz with a slow tremolo: [n_samples] float32. It is the same sound at every rate."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    phases = np.random.default_rng(1).uniform(0, 2 * np.pi, 22)
    partials = [np.sin(2 * np.pi * 310 * (i + 1) * time + phase) / (i + 1) for i, phase in enumerate(phases)]
    return (0.2 * (1 + np.sin(2 * np.pi * 1.5 * time)) * np.sum(partials, 0) / 2).astype(np.float32)


def encoded(wave: np.ndarray, rate_hz: int = 16_000, file_format: str = "WAV", subtype: str | None = None) -> bytes:
    """Encode a wave with libsndfile."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=file_format, subtype=subtype)
    return buffer.getvalue()


def flac_that_claims(n_samples: int, flac: bytes) -> bytes:
    """Write another number of samples into a FLAC's header. A streaming encoder writes 0."""
    word = int.from_bytes(flac[18:26], "big") >> 36 << 36 | n_samples
    return flac[:18] + word.to_bytes(8, "big") + flac[26:]
