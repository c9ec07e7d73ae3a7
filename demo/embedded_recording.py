"""Decode and embed one recording with the time of each stage."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.upload import check_upload, name_upload, named_upload
from serving.audio import Recording, Window, is_silent, level_dbfs
from serving.audio.window import OverlappingWindow
from serving.embedder import Embedder

MAX_SECONDS = 600  # longest recording that is decoded whole; `streamed_recording` reads longer ones


@dataclass(frozen=True, eq=False)
class EmbeddedRecording:
    """The embeddings of a recording, or of what has been read of it so far.

    path          of the file
    rows          [n_windows, 128] float32 embeddings
    wave          [n_samples] float32 mono at the model's rate; empty for a recording that is not decoded whole
    window        of the model, at the spacing that was chosen
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
        """Duration of the sound in seconds: of `wave`, if there is one."""
        return len(self.wave) / self.window.rate_hz if len(self.wave) else self.seconds

    @property
    def starts_s(self) -> NDArray[np.float64]:
        """Start in seconds of the stretch that each window names: [n_windows].

        It is the window's own start. Of windows that overlap it is the start of the middle part, one hop long, so that
        the stretches follow each other; the first window's begins with the sound.
        """
        overlap = isinstance(self.window, OverlappingWindow)
        before = (self.window.samples - self.window.hop_samples) / 2 if overlap else 0
        starts = (np.arange(len(self.rows)) * self.window.hop_samples + before) / self.window.rate_hz
        starts[:1] = 0
        return starts

    @property
    def ends_s(self) -> NDArray[np.float64]:
        """End of each stretch in seconds, which is the start of the next or the end of the sound: [n_windows]."""
        starts = self.starts_s
        last = starts[-1] + self.window.hop_samples / self.window.rate_hz
        if isinstance(self.window, OverlappingWindow):
            last = ((len(starts) - 1) * self.window.hop_samples + self.window.samples) / self.window.rate_hz
        return np.minimum([*starts[1:], last], self.sound_s)


def embed_recording(embedder: Embedder, path: str | Path | None, hop_seconds: float | None = None) -> EmbeddedRecording:
    """Decode one file, resample and embed it.

    hop_seconds   from the start of a window to the start of the next one; None: the model's own
    errors   AudioError: no recording, not readable, empty, not finite; DurationError: longer than MAX_SECONDS
    """
    path = check_upload(path)
    window = embedder.manifest.window.with_hop(hop_seconds)
    with named_upload(path):
        recording = Recording.from_file(path, window.rate_hz, MAX_SECONDS)
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
        tuple(name_upload(line, path) for line in recording.warnings),
    )
