"""The acoustic vocabulary: synthesised sounds that belong to no class, each with a description of how it sounds.

A model that learns only from class descriptions sees a few dozen texts, too few to learn which property of a sound goes
with which word. Here the properties of a sound (kind, pitch, course in time, level, roughness) are drawn at random and
give its description: "loud irregular short high clicks". No class of a data set is imitated; the words are general ones
of acoustic descriptions ("wind" and "engine" among them, which are also names of ESC-50 classes). The idea is domain
randomisation (Tobin 2017, arXiv:1703.06907).
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from serving.audio import Window
from serving.log_mel import LogMelConfig
from training.data.clip_frames import ClipFrames
from training.data.fingerprint import fingerprint
from training.data.frame_cache import cached_frames, frames_depend_on
from training.synthesis.building_blocks import Rng, Wave, add_at, harmonics, noise, wander

RATE_HZ = 16_000
LENGTH_S = 5.0
N_SAMPLES = int(LENGTH_S * RATE_HZ)
VERSION = 1  # raised when the same seed gives other sounds or words
VOCABULARY_SEED = 0  # of all runs, so that they can share it

PITCHES = ("low", "middle", "high")
COURSES = ("continuous", "swelling", "single", "regular", "irregular")
COURSES_OF = {"noise": COURSES, "tone": COURSES, "click": COURSES[2:], "motor": COURSES[:2]}
COURSE_WORDS = {
    "continuous": ("continuous", "steady continuous", "constant"),
    "swelling": ("slow swelling continuous", "slowly rising and falling"),
    "single": ("sudden short", "short abrupt", "single short"),
    "regular": ("regular repeated short", "regular short"),
    "irregular": ("irregular short", "irregular repeated"),
}
NOUNS = {
    ("noise", "low"): ("low rumbling noise", "low wind noise"),
    ("noise", "middle"): ("noise", "rushing water noise"),
    ("noise", "high"): ("hissing noise", "high hissing water noise"),
    ("tone", "low"): ("low voice", "low tonal animal voice"),
    ("tone", "middle"): ("tonal voice", "human voice", "animal voice"),
    ("tone", "high"): ("high tonal call", "high tonal whistle", "bird call"),
    ("click", "low"): ("low thuds", "knocks"),
    ("click", "middle"): ("clicks", "mechanical clicks", "pops"),
    ("click", "high"): ("high clicks", "sharp ticks"),
    ("motor", "low"): ("low throbbing engine noise", "low engine noise"),
    ("motor", "middle"): ("engine noise", "motor noise"),
    ("motor", "high"): ("buzzing engine noise", "whining motor noise"),
}
# Ranges of the pitch words in Hz.
TONE_HZ = {"low": (80, 220), "middle": (250, 700), "high": (800, 3000)}
MOTOR_HZ = {"low": (20, 60), "middle": (60, 120), "high": (120, 250)}
BAND_HZ = {"low": ((40, 41), (250, 700)), "middle": ((200, 600), (1500, 3500)), "high": ((1500, 3000), (7800, 7801))}
LEVEL = {"quiet": (0.01, 0.08), "": (0.1, 0.5), "loud": (0.5, 1.0)}
EVENT_S = {"tone": (0.15, 1.2), "noise": (0.08, 0.6), "click": (0.03, 0.031)}


@dataclass(frozen=True)
class Qualities:
    """The properties of one sound."""

    kind: str
    pitch: str
    course: str
    level: str
    rough: bool

    def words(self, rng: Rng) -> str:
        """One of several possible descriptions: "quiet regular short low thuds"."""
        parts = [self.level] if self.level else []
        parts.append(str(rng.choice(COURSE_WORDS[self.course])))
        if self.rough and self.kind == "tone":
            parts.append("rough")
        parts.append(str(rng.choice(NOUNS[self.kind, self.pitch])))
        return " ".join(parts)


@dataclass(frozen=True)
class Vocabulary:
    """Sounds, their descriptions and their properties, in the same order."""

    frames: ClipFrames
    texts: tuple[str, ...]
    qualities: tuple[Qualities, ...]


def draw_qualities(rng: Rng) -> tuple[Qualities, str]:
    """Draw each property uniformly, but only courses that the kind can have (a click is short); with a description."""
    kind = str(rng.choice(list(COURSES_OF)))
    pitch, course, level = (str(rng.choice(values)) for values in (PITCHES, COURSES_OF[kind], list(LEVEL)))
    wanted = Qualities(kind, pitch, course, level, bool(rng.random() < 0.4))
    return wanted, wanted.words(rng)


def draw_sound(rng: Rng) -> tuple[Wave, str]:
    """One sound [80 000] float32 in [-1, 1] at 16 kHz, and its description."""
    wanted, words = draw_qualities(rng)
    source = _SoundMaker(wanted, rng)
    if wanted.course in ("continuous", "swelling"):
        wave = _lasting(wanted, source, rng)
    else:
        wave = _events(wanted, source, rng)
    wave = wave / (np.abs(wave).max() + 1e-9) * rng.uniform(*LEVEL[wanted.level])
    background = 10 ** rng.uniform(-4.5, -2.2) * noise(rng, N_SAMPLES, RATE_HZ, 60, 7000)
    return np.clip(wave + background, -1, 1).astype(np.float32), words


class _SoundMaker:
    """Makes stretches of one sound: pitch and band are drawn once, everything else for each stretch."""

    def __init__(self, wanted: Qualities, rng: Rng):
        self.wanted, self.rng = wanted, rng
        self.pitch_hz = rng.uniform(*(MOTOR_HZ if wanted.kind == "motor" else TONE_HZ)[wanted.pitch])
        low, high = BAND_HZ[wanted.pitch]
        self.band_hz = rng.uniform(*low), rng.uniform(*high)

    def make(self, n_samples: int) -> Wave:
        """A stretch [n_samples] with peak 1."""
        wave = {"noise": self._noise, "tone": self._tone, "click": self._click, "motor": self._motor}[self.wanted.kind](
            n_samples
        )
        return wave / (np.abs(wave).max() + 1e-9)

    def _noise(self, n_samples: int) -> Wave:
        return noise(self.rng, n_samples, RATE_HZ, *self.band_hz)

    def _tone(self, n_samples: int, glide: float = 0.6, rough: bool | None = None) -> Wave:
        rng, rough = self.rng, self.wanted.rough if rough is None else rough
        time_s = np.arange(n_samples) / RATE_HZ
        bend = 1 + rng.uniform(-glide, glide) * np.linspace(-0.5, 0.5, n_samples)
        pitch_hz = self.pitch_hz * (bend + 0.01 * np.sin(2 * np.pi * rng.uniform(4, 7) * time_s))
        if rough:
            pitch_hz = pitch_hz * (1 + 0.03 * (wander(rng, n_samples, RATE_HZ, 40) - 0.5))
        level = np.arange(1, 25) ** -rng.uniform(0.5, 1.5)
        wave = harmonics(pitch_hz, level, RATE_HZ)
        if rough:
            wave = wave * (1 + 0.8 * np.sin(2 * np.pi * rng.uniform(30, 90) * time_s))
        return wave.astype(np.float32)

    def _click(self, n_samples: int) -> Wave:
        decay = np.exp(-np.arange(n_samples) / (RATE_HZ * self.rng.uniform(0.0005, 0.002)))
        return (noise(self.rng, n_samples, RATE_HZ, *self.band_hz) * decay).astype(np.float32)

    def _motor(self, n_samples: int) -> Wave:
        hum = self._tone(n_samples, glide=0.1, rough=False)
        air = noise(self.rng, n_samples, RATE_HZ, 100, self.rng.uniform(800, 6000))
        return (hum / (hum.std() + 1e-9) + self.rng.uniform(0.2, 1.7) * air).astype(np.float32)


def _lasting(wanted: Qualities, source: _SoundMaker, rng: Rng) -> Wave:
    wave = source.make(N_SAMPLES)
    time_s = np.arange(N_SAMPLES) / RATE_HZ
    if wanted.course == "swelling":
        swell = 0.5 - 0.5 * np.cos(2 * np.pi * (time_s / rng.uniform(2, 6) + rng.random()))
        return (wave * swell**1.5).astype(np.float32)
    if wanted.kind == "motor" and rng.random() < 0.5:  # strokes of a piston or blades of a rotor
        return (wave * (1 + 0.7 * np.sin(2 * np.pi * rng.uniform(6, 20) * time_s))).astype(np.float32)
    return wave


def _events(wanted: Qualities, source: _SoundMaker, rng: Rng) -> Wave:
    length_s = rng.uniform(*EVENT_S[wanted.kind])
    n_samples = int(length_s * RATE_HZ)
    if wanted.course == "single":
        starts = np.array([rng.uniform(0, 3)])
    elif wanted.course == "regular":
        period_s = max(1.2 * length_s, rng.uniform(0.2, 1.2))
        starts = np.arange(rng.uniform(0, period_s), LENGTH_S - 0.2, period_s)
    else:
        starts = rng.uniform(0, LENGTH_S - 0.2, rng.integers(4, 7 if wanted.kind == "tone" else 30))
    fade = np.minimum(1, np.arange(n_samples) / (0.005 * RATE_HZ)) * np.minimum(
        1, np.arange(n_samples, 0, -1) / (0.5 * n_samples)
    )
    wave, same = np.zeros(N_SAMPLES, np.float32), source.make(n_samples)
    for start_s in starts:
        event = same if rng.random() < 0.5 else source.make(n_samples)
        add_at(wave, float(start_s), event * fade * rng.uniform(0.6, 1), RATE_HZ)
    return wave


def load_vocabulary(count: int, seed: int, config: LogMelConfig, window: Window, cache_dir: Path) -> Vocabulary:
    """Synthesise `count` sounds, or read their log-mel frames from the cache. The same seed gives the same sounds."""
    depends = {"vocabulary": VERSION, "count": count, "seed": seed, "numpy": np.__version__}
    depends |= frames_depend_on(config, window)
    sounds = [partial(_sound, seed, index) for index in range(count)]
    frames = cached_frames(cache_dir / f"vocabulary-{fingerprint(depends)}", sounds, "synthesising", config, window)
    drawn = _drawn(count, seed)
    return Vocabulary(frames, tuple(texts for _, texts in drawn), tuple(qualities for qualities, _ in drawn))


def vocabulary_texts(count: int, seed: int) -> list[str]:
    """The descriptions of `load_vocabulary`'s sounds, which are not synthesised for it."""
    return [texts for _, texts in _drawn(count, seed)]


def _drawn(count: int, seed: int) -> list[tuple[Qualities, str]]:
    return [draw_qualities(np.random.default_rng([seed, index])) for index in range(count)]


def _sound(seed: int, index: int) -> Wave:
    return draw_sound(np.random.default_rng([seed, index]))[0]
