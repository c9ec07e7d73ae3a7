"""Decode and embed one recording with the time of each stage."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio import Recording, Window, is_silent, level_dbfs
from serving.embedder import Embedder
from serving.errors import AudioError

MAX_SECONDS = 600  # longest recording that the page accepts


@dataclass(frozen=True, eq=False)
class EmbeddedRecording:
    """A decoded recording and its embeddings.

    path          of the file
    rows          [n_windows, 128] float32 embeddings
    wave          [n_samples] float32 mono at the model's rate
    window        of the model
    levels        peak level of each window in dBFS, see `serving.audio.level_dbfs`
    milliseconds  by stage: decode, resample, model
    rate_hz, channels, seconds   of the file
    space         the bundle's embedding_space
    warnings      what of the recording could not be read, a line each
    """

    path: str
    rows: NDArray[np.float32]
    wave: NDArray[np.float32]
    window: Window
    levels: list[float]
    milliseconds: dict[str, float]
    rate_hz: int
    channels: int
    seconds: float
    space: str
    warnings: tuple[str, ...] = ()

    @property
    def level_dbfs(self) -> float:
        """That of the loudest window."""
        return max(self.levels)

    @property
    def is_silent(self) -> bool:
        """Whether there is nothing to hear."""
        return is_silent(self.level_dbfs)

    @property
    def silent_windows(self) -> list[bool]:
        """Whether there is nothing to hear in each window."""
        return [is_silent(level) for level in self.levels]

    @property
    def sound_s(self) -> float:
        """Duration of `wave` in seconds."""
        return len(self.wave) / self.window.rate_hz

    @property
    def starts_s(self) -> NDArray[np.float64]:
        """Start of each window in seconds: [n_windows]."""
        return np.arange(len(self.rows)) * self.window.hop_samples / self.window.rate_hz

    @property
    def ends_s(self) -> NDArray[np.float64]:
        """End of each window in seconds, which is the start of the next or the end of the sound: [n_windows]."""
        return np.minimum(self.starts_s + self.window.hop_samples / self.window.rate_hz, self.sound_s)


def embed_recording(embedder: Embedder, path: str | Path | None) -> EmbeddedRecording:
    """Decode one file, resample and embed it.

    errors   AudioError: no recording, not readable, empty, not finite, or longer than MAX_SECONDS
    """
    if path is None:
        raise AudioError("recording: got none; send one audio file")
    window = embedder.manifest.window
    recording = Recording.from_bytes(_bytes_of(Path(path)), Path(path).name, window.rate_hz, MAX_SECONDS)
    start = time.perf_counter()
    windows = recording.windows(window)
    rows = embedder.run(windows)
    model_ms = 1000 * (time.perf_counter() - start)
    return EmbeddedRecording(
        str(path),
        rows,
        recording.wave,
        window,
        [level_dbfs(each) for each in windows],
        recording.milliseconds | {"model": model_ms},
        int(recording.rate_hz),
        recording.channels,
        recording.duration_s,
        embedder.manifest.embedding_space,
        recording.warnings,
    )


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise AudioError(f"{path.name}: no longer exists; send it again") from error
