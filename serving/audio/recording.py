"""One recording on its way to a network: decoded, mixed to mono, resampled, cut into windows, and prepared.

    recording = Recording.from_file("dog.mp3", window.rate_hz)
    prepared = recording.prepare(window, front_end)

The server, the demo, the training and the benchmarks all read recordings this way. They are decoded block by block, so
only the mono waveform is held whole; what `prepare` returns holds no waveform but the network's input. For recordings
of any length see `serving.audio.recording_stream`.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.audio.decoding import decode_blocks
from serving.audio.level import level_dbfs
from serving.audio.mono_stream import MonoStream
from serving.audio.reading import file_blocks
from serving.audio.streams import ByteSource
from serving.audio.waveform import to_mono
from serving.audio.window import Window, cut_windows

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False, kw_only=True)
class RecordingFacts:
    """What is known of a recording.

    duration_s, rate_hz, channels   of the recording as it was decoded, before mixing and resampling
    warnings                        one line for each part that could not be read
    milliseconds                    time of each step so far: decode; resample (mix to mono, resample, cut into
                                    windows); front_end
    """

    duration_s: float
    rate_hz: float
    channels: int
    warnings: tuple[str, ...] = ()
    milliseconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedRecording(RecordingFacts):
    """A recording as a network takes it.

    inputs       [n_windows, ...] float32: its windows after the front end
    levels_dbfs  peak level of each window, see `level_dbfs`
    """

    inputs: NDArray[np.float32]
    levels_dbfs: list[float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Recording(RecordingFacts):
    """A recording, decoded and resampled.

    wave           [n_samples] float32 mono, in [-1, 1] at wave_rate_hz
    """

    wave: NDArray[np.float32]
    wave_rate_hz: int

    @classmethod
    def from_file(cls, path: str | Path, rate_hz: int | None, max_seconds: float | None = None) -> Self:
        """Decode a file and resample it.

        rate_hz      of `wave`; None: the recording's own rate; of several the first
        max_seconds  longest recording; None: no limit
        errors       AudioError naming the file, see `read_audio` and `MonoStream`
        """
        warnings: list[str] = []
        return cls._decoded(MonoStream(file_blocks(path, max_seconds, warnings.append), str(path), rate_hz, warnings))

    @classmethod
    def from_bytes(cls, data: bytes, name: str, rate_hz: int | None, max_seconds: float | None = None) -> Self:
        """As `from_file`, for the bytes of an audio file. name: for messages."""
        warnings: list[str] = []
        blocks = decode_blocks(ByteSource(data), name, max_seconds, warnings.append)
        return cls._decoded(MonoStream(blocks, name, rate_hz, warnings))

    @classmethod
    def from_samples(cls, samples: NDArray[np.floating], samples_rate_hz: float, rate_hz: int) -> Self:
        """Resample samples that are decoded already.

        samples  [n_samples] or [n_samples, n_channels] float in [-1, 1] at samples_rate_hz
        rate_hz  of `wave`
        errors   AudioError, see `to_mono`
        """
        samples = np.asarray(samples)
        wave, resample_ms = _timed(lambda: to_mono(samples, samples_rate_hz, rate_hz))
        return cls(
            duration_s=len(samples) / samples_rate_hz,
            rate_hz=samples_rate_hz,
            channels=1 if samples.ndim == 1 else samples.shape[1],
            milliseconds={"resample": resample_ms},
            wave=wave,
            wave_rate_hz=rate_hz,
        )

    @classmethod
    def _decoded(cls, stream: MonoStream) -> Self:
        with closing(stream):
            waves = list(stream)
        assert stream.target_hz is not None
        return cls(
            duration_s=stream.duration_s,
            rate_hz=stream.rate_hz,
            channels=stream.channels,
            warnings=tuple(stream.warnings),
            milliseconds=stream.milliseconds,
            wave=waves[0] if len(waves) == 1 else np.concatenate(waves),
            wave_rate_hz=stream.target_hz,
        )

    def windows(self, window: Window) -> NDArray[np.float32]:
        """Cut into windows [n_windows, samples] float32, see `cut_windows`. `wave` must be at the window's rate."""
        assert window.rate_hz == self.wave_rate_hz, f"got {self.wave_rate_hz} Hz, wanted {window.rate_hz} Hz"
        return cut_windows(self.wave, window)

    def prepare(
        self, window: Window, front_end: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    ) -> PreparedRecording:
        """Cut into windows and compute the network's input.

        front_end   windows [n_windows, samples] float32 -> inputs [n_windows, ...] float32
        """
        windows, cut_ms = _timed(lambda: self.windows(window))
        levels_dbfs = [level_dbfs(each) for each in windows]  # now, while the CPU's cache still holds them
        inputs, front_end_ms = _timed(lambda: front_end(windows))
        steps = self.milliseconds | {"resample": self.milliseconds["resample"] + cut_ms, "front_end": front_end_ms}
        return PreparedRecording(
            duration_s=self.duration_s,
            rate_hz=self.rate_hz,
            channels=self.channels,
            warnings=self.warnings,
            milliseconds=steps,
            inputs=inputs,
            levels_dbfs=levels_dbfs,
        )


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result of some work, and its time in milliseconds."""
    start = time.perf_counter()
    result = work()
    return result, 1000 * (time.perf_counter() - start)
