"""One recording, decoded and embedded with the time by stage, and ranked as often as labels change."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio import decode_audio, to_mono
from serving.embedder import Embedder, pool
from serving.errors import AudioError
from serving.zeroshot import ZeroShot

STAGES: tuple[str, ...] = ("decode", "resample", "model")
MAX_SECONDS = 600  # longest recording that the page takes
SILENCE = 1e-4  # greatest sample of a recording that has nothing to hear, -80 dB of full scale


@dataclass(frozen=True, eq=False)
class Heard:
    """What the model made of one recording.

    rows          [n_windows, 128] float32 embeddings
    wave          [n_samples] float32 mono at the model's rate
    milliseconds  by stage: decode, resample, model
    rate_hz, channels, seconds   of the file as it came
    space         the bundle's embedding_space
    warnings      what of the recording could not be read, a line each
    """

    rows: NDArray[np.float32]
    wave: NDArray[np.float32]
    milliseconds: dict[str, float]
    rate_hz: int
    channels: int
    seconds: float
    space: str
    warnings: tuple[str, ...] = ()

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to hear."""
        return float(np.abs(self.wave).max()) < SILENCE


@dataclass(frozen=True, eq=False)
class Ranked:
    """Labels for one recording.

    chosen        the map over these labels: says which were seen
    ranking       (label, probability) pairs, likeliest first; the probabilities sum to 1
    by_window     (label, probability) of the likeliest label of each window
    milliseconds  that the labels' vectors and the ranking took
    """

    chosen: ZeroShot
    ranking: list[tuple[str, float]]
    by_window: list[tuple[str, float]]
    milliseconds: float

    @property
    def seen(self) -> set[str]:
        """Labels that the model was trained on."""
        return set(self.chosen.seen_names)


def hear(embedder: Embedder, path: str | Path | None) -> Heard:
    """Decode one file, resample and embed it.

    errors   AudioError: none, not readable, empty, samples not finite, longer than the page takes
    """
    if path is None:
        raise AudioError("recording: got none; send one audio file")
    times = [time.perf_counter()]
    warnings: list[str] = []
    data, name = _bytes_of(Path(path)), Path(path).name
    samples, rate_hz = decode_audio(data, name, MAX_SECONDS, warnings.append)  # [n_samples, n_channels]
    times.append(time.perf_counter())
    target_hz = embedder.manifest.window.rate_hz
    wave = to_mono(samples, rate_hz, target_hz)
    times.append(time.perf_counter())
    rows = embedder.embed_windows(wave, target_hz)
    times.append(time.perf_counter())
    stages: dict[str, float] = dict(zip(STAGES, (1000 * np.diff(times)).tolist(), strict=True))
    return Heard(
        rows,
        wave,
        stages,
        rate_hz,
        samples.shape[1],
        len(samples) / rate_hz,
        embedder.manifest.embedding_space,
        tuple(warnings),
    )


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AudioError(f"{path.name}: is no longer there; send it again") from error


def rank(embedder: Embedder, rows: NDArray[np.float32], labels: Sequence[str] | None, offset: float = 0.0) -> Ranked:
    """Rank labels for a clip's windows [n_windows, 128].

    labels, offset   as for `Embedder.classify`
    errors           LabelError
    """
    start = time.perf_counter()
    chosen = embedder.choose(labels)
    ranking = chosen.rank(pool(rows), offset=offset)
    by_window = [chosen.rank(row, offset=offset)[0] for row in rows]
    return Ranked(chosen, ranking, by_window, 1000 * (time.perf_counter() - start))
