"""The clips of ESC-50 that the curves are made of: their embeddings, and log-mel statistics without a network."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.esc50_list import read_esc50_list
from serving.audio import Recording
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.log_mel import LogMelConfig
from serving.pooling import pool_heard
from serving.progress import track

SILENCE = 1e-4  # above the log-mel of digital silence


@dataclass(frozen=True, eq=False)
class Clips:
    """Clips of ESC-50.

    embeddings  [n, 128] float32;  statistics  [n, 192] float32, see `log_mel_statistics`
    classes     name of each one's class;  folds  [n] int: recording fold, 1 to 5; clips of one source are in one fold
    """

    embeddings: NDArray[np.float32]
    statistics: NDArray[np.float32]
    classes: NDArray[np.str_]
    folds: NDArray[np.intp]


def read_list(data_dir: Path) -> list[tuple[Path, str, int]]:
    """Path, class and recording fold of each clip of ESC-50. DataError: the list cannot be read."""
    rows = read_esc50_list(data_dir, lambda path, row: (path, row["category"], int(row["fold"])))
    if not rows:
        raise UsageError(f"{data_dir / 'meta' / 'esc50.csv'}: lists no clip; give ESC-50's folder as --data-dir")
    return rows


def load_clips(embedder: Embedder, data_dir: Path, statistics: NDArray[np.float32] | None = None) -> Clips:
    """Embed every clip once.

    statistics   of the clips, from another embedder with the same front end; None: compute them
    """
    listed = read_list(data_dir)
    paths = [path for path, _, _ in listed]
    rows = np.stack([clip_embedding(embedder, path) for path in track(paths, "embeddings")])
    if statistics is None:
        statistics = np.stack([clip_statistics(embedder, path) for path in track(paths, "log-mel statistics")])
    classes = np.array([name for _, name, _ in listed])
    return Clips(rows, statistics, classes, np.array([fold for _, _, fold in listed]))


def clip_embedding(embedder: Embedder, path: Path) -> NDArray[np.float32]:
    """A clip's embedding without its silent windows, as `serving.teach` and `classify` take it: [128] float32."""
    prepared = embedder.prepare_file(path)
    return pool_heard(embedder.run_prepared(prepared.inputs), prepared.levels_dbfs)


def clip_statistics(embedder: Embedder, path: Path) -> NDArray[np.float32]:
    """`log_mel_statistics` of a clip's frames, without digital silence at its end: [192] float32."""
    recording = Recording.from_file(path, embedder.manifest.window.rate_hz)
    frames = np.concatenate(list(embedder.log_mel(recording.wave, recording.wave_rate_hz)))  # [n, 64]
    heard = np.flatnonzero((frames > LogMelConfig(**embedder.manifest.front_end).silence + SILENCE).any(axis=1))
    return log_mel_statistics(frames[: heard[-1] + 1 if len(heard) else 1])


def log_mel_statistics(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean, standard deviation and mean absolute difference from frame to frame of each band: [n, 64] -> [192]."""
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=0) if len(frames) > 1 else np.zeros_like(frames[0])
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0), steps]).astype(np.float32)
