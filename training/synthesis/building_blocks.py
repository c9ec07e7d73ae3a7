"""Building blocks of synthesised sounds: noise, tones, resonators, events, a room.

Curves and waves are one-dimensional arrays at `rate_hz`. All randomness comes from the generator that is passed.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.signal import fftconvolve, lfilter

Wave = NDArray[np.float32]
Rng = np.random.Generator

TOP = 0.47  # of the sampling rate: higher partials are left out, so that none is aliased


def noise(rng: Rng, n_samples: int, rate_hz: int, low_hz: float, high_hz: float, tilt_db: float = 0.0) -> Wave:
    """Gaussian noise between two edges (18 dB per octave outside), sloping by `tilt_db` per octave; RMS 1."""
    n_fft = cast(int, fft.next_fast_len(n_samples, real=True))
    hertz = np.maximum(np.arange(n_fft // 2 + 1), 0.5).astype(np.float32) * (rate_hz / n_fft)
    gain = (hertz / 1000) ** (tilt_db / 6.02) / np.sqrt((1 + (low_hz / hertz) ** 6) * (1 + (hertz / high_hz) ** 6))
    parts = rng.standard_normal((2, len(hertz)), dtype=np.float32)
    wave = np.asarray(fft.irfft(gain * (parts[0] + 1j * parts[1]), n_fft))[:n_samples]
    return (wave / _rms(wave)).astype(np.float32)


def wander(rng: Rng, n_samples: int, rate_hz: int, per_second: float) -> Wave:
    """A smooth random curve in [0, 1]: a new random value `per_second` times, joined by cosines."""
    knots = rng.uniform(size=(int(n_samples / rate_hz * per_second) + 3, 1))
    blend = 0.5 - 0.5 * np.cos(np.pi * np.arange(16) / 16)
    curve = (knots[:-1] * (1 - blend) + knots[1:] * blend).ravel()  # 16 points a knot
    place = (np.arange(n_samples) * (per_second / rate_hz) + rng.uniform()) * 16
    return np.interp(place, np.arange(len(curve)), curve).astype(np.float32)


def phase(pitch_hz: ArrayLike, rate_hz: int) -> NDArray[np.float64]:
    """Phase in radians along a pitch curve in Hz [n_samples]."""
    return np.cumsum(np.asarray(pitch_hz, dtype=np.float64)) * (2 * np.pi / rate_hz)


def harmonics(pitch_hz: ArrayLike, level: ArrayLike, rate_hz: int) -> Wave:
    """A sum of harmonics of one pitch.

    pitch_hz  [n_samples]
    level     [n_harmonics] or [n_harmonics, n_samples]: amplitude of the 1st, 2nd, ... harmonic
    returns   [n_samples]; harmonics whose highest pitch exceeds TOP are left out
    """
    pitch_hz, level = np.asarray(pitch_hz), np.asarray(level)
    # Modulo 2 pi float32 is precise enough; of a larger phase its rounding would be audible noise.
    angle = np.mod(phase(pitch_hz, rate_hz), 2 * np.pi).astype(np.float32)
    wave = np.zeros(len(pitch_hz), dtype=np.float32)
    for number in range(1, min(len(level), int(TOP * rate_hz / pitch_hz.max())) + 1):
        wave += level[number - 1] * np.sin(number * angle)
    return wave


def voice(pitch_hz: ArrayLike, formants_hz: Sequence[ArrayLike], width_hz: float, tilt_db: float, rate_hz: int) -> Wave:
    """A voice: harmonics that fall by `tilt_db` per octave and rise near each formant.

    formants_hz  each a number or a curve [n_samples]
    returns      [n_samples], peak 1
    """
    pitch_hz = np.asarray(pitch_hz, dtype=np.float32)
    number = np.arange(1, int(TOP * rate_hz / pitch_hz.max()) + 1, dtype=np.float32)[:, None]
    partial_hz = number * pitch_hz  # [n_harmonics, n_samples]
    throat = sum(1 / (1 + ((partial_hz - np.asarray(formant)) / width_hz) ** 2) for formant in formants_hz)
    wave = harmonics(pitch_hz, (0.03 + throat) * number ** (-tilt_db / 6.02), rate_hz)
    return wave / np.abs(wave).max()


def resonate(
    excitation: NDArray[np.floating], hertz: ArrayLike, decay_s: ArrayLike, level: ArrayLike, rate_hz: int
) -> Wave:
    """The response of a body with these modes to an excitation [n_samples].

    hertz, decay_s, level  [n_modes]: a unit impulse rings at hertz with amplitude `level`, down to 1/e in decay_s
    """
    wave = np.zeros(len(excitation))
    for mode_hz, mode_decay_s, mode_level in np.broadcast(hertz, decay_s, level):
        if mode_hz < TOP * rate_hz:
            radius, angle = np.exp(-1 / (mode_decay_s * rate_hz)), 2 * np.pi * mode_hz / rate_hz
            feedback = [1.0, -2 * radius * np.cos(angle), radius**2]
            wave += lfilter([mode_level * np.sin(angle)], feedback, excitation)
    return wave.astype(np.float32)


def pluck(n_samples: int, rate_hz: int, attack_s: float, decay_s: float) -> Wave:
    """An envelope that rises within about `attack_s` and falls to 1/e in `decay_s`; it ends at 0."""
    time = np.arange(n_samples, dtype=np.float32) / rate_hz
    fade = np.minimum(1, np.arange(n_samples, 0, -1, dtype=np.float32) / (0.1 * n_samples))
    return (1 - np.exp(-time / attack_s)) * np.exp(-time / decay_s) * fade


def arch(n_samples: int, rise: float = 0.1, fall: float = 0.2) -> Wave:
    """An envelope held at 1 between a rise and a fall, both given as a share of its length."""
    place = (np.arange(n_samples, dtype=np.float32) + 0.5) / n_samples
    edge = np.minimum(1, np.minimum(place / rise, (1 - place) / fall))
    return (0.5 - 0.5 * np.cos(np.pi * edge)).astype(np.float32)


def group_times(
    rng: Rng, length_s: float, count: int, interval_s: float, pause_s: float, jitter: float
) -> NDArray[np.float64]:
    """Start times in seconds of groups of `count` events: `interval_s` apart, `pause_s` more between groups.

    jitter   standard deviation of each gap, as a share of the gap
    returns  [n_events] rising, the first within 0.6 s
    """
    n_events = int(length_s / (interval_s + pause_s / count)) * 2 + count
    gaps = np.full(n_events, interval_s)
    gaps[count - 1 :: count] += pause_s
    gaps *= np.clip(1 + jitter * rng.standard_normal(n_events), 0.3, 2.0)
    first = rng.uniform(0.02, min(0.6, 0.1 + interval_s + pause_s))
    times = first + np.concatenate([[0.0], np.cumsum(gaps)])
    return times[times < length_s]


def random_times(rng: Rng, length_s: float, per_second: float) -> NDArray[np.float64]:
    """Start times in seconds of independent events (a Poisson process); at least one."""
    return np.sort(rng.uniform(0, length_s, max(1, rng.poisson(length_s * per_second))))


def add_at(wave: Wave, start_s: float, event: NDArray[np.floating], rate_hz: int) -> None:
    """Add an event to a wave in place; samples past the end are cut off."""
    start = int(start_s * rate_hz)
    end = min(len(wave), start + len(event))
    if start < end:
        wave[start:end] += event[: end - start]


def impulses(n_samples: int, rate_hz: int, times_s: NDArray[np.floating], level: ArrayLike) -> Wave:
    """A train of single samples of these levels."""
    places = np.minimum((times_s * rate_hz).astype(int), n_samples - 1)
    return np.bincount(places, np.broadcast_to(level, places.shape), minlength=n_samples).astype(np.float32)


def room(wave: Wave, rng: Rng, rate_hz: int, decay_s: float, wet: float) -> Wave:
    """Add the reverberation of a room: low-pass noise that falls by 60 dB in `decay_s`.

    wet      RMS of the reverberation as a share of the sound's
    """
    n_tail = max(2, int(decay_s * rate_hz))
    time = np.arange(n_tail) / n_tail
    tail = noise(rng, n_tail, rate_hz, 150, 3500, -1.5) * np.exp(-6.9 * time) * np.minimum(1, time / 0.02)
    echo = fftconvolve(wave, tail.astype(np.float32))[: len(wave)]
    return (wave + echo * (wet * _rms(wave) / max(_rms(echo), 1e-9))).astype(np.float32)


def record_in_room(sound: Wave, rng: Rng, rate_hz: int) -> Wave:
    """Turn a dry sound into a recording: add a room, background noise and a level.

    The room is drawn from `rng`, the background noise from a child of it, so that all takes share the room.
    returns  [n_samples] float32, peak between 0.2 and 0.9
    """
    take = rng.spawn(1)[0]
    decay_s, wet = rng.uniform(0.1, 1.0), rng.uniform(0.02, 0.3)
    snr_db, peak = rng.uniform(16, 38), np.exp(rng.uniform(np.log(0.25), np.log(0.85)))
    low_hz, high_hz, tilt_db = rng.uniform(30, 300), rng.uniform(1500, 7000), rng.uniform(-5, 0)
    muffled_hz = rng.uniform(5000, 9000)
    wave = room(sound, rng, rate_hz, decay_s, wet)
    gusts = 0.6 + 0.8 * wander(take, len(wave), rate_hz, 1.5)
    other = noise(take, len(wave), rate_hz, low_hz, high_hz, tilt_db) * gusts
    wave = wave / max(_rms(wave), 1e-9) + other * (10 ** (-snr_db / 20) / _rms(other))
    # A low-pass pole for the distance and the microphone, and a high-pass pole at 20 Hz.
    low_pass, high_pass = np.exp(-2 * np.pi * muffled_hz / rate_hz), np.exp(-2 * np.pi * 20 / rate_hz)
    wave = lfilter([1 - low_pass, low_pass - 1], [1, -low_pass - high_pass, low_pass * high_pass], wave)
    return (wave * (peak * take.uniform(0.8, 1.05) / np.abs(wave).max())).astype(np.float32)


def _rms(wave: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(wave))))
