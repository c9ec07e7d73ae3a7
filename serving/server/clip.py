"""One uploaded recording on its way to the network, with what each stage took."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.audio import decode_audio, level_dbfs
from serving.embedder import Embedder
from serving.server.upload import UploadedFile

Result = TypeVar("Result")


@dataclass(frozen=True)
class Clip:
    """A recording, decoded, cut and prepared.

    duration_s, rate_hz, channels   of the recording as it came
    level_dbfs                      peak level of each window, see `serving.audio.level_dbfs`
    inputs                          [n_windows, ...] float32: its windows, as `Embedder.prepare` makes them
    warnings                        what of the recording could not be read, a line each
    decode_ms, resample_ms, front_end_ms
                                    what the stages took; resample: mix to mono, resample, cut
    """

    duration_s: float
    rate_hz: int
    channels: int
    level_dbfs: list[float]
    inputs: NDArray[np.float32]
    warnings: tuple[str, ...]
    decode_ms: float
    resample_ms: float
    front_end_ms: float


def read_clip(file: UploadedFile, embedder: Embedder, max_seconds: float) -> Clip:
    """Decode one audio file, cut it and prepare its windows as the embedder does.

    errors   AudioError, see `decode_audio` and `to_mono`
    """
    told: list[str] = []
    (wave, rate_hz), decode_ms = timed(lambda: decode_audio(file.data, file.name, max_seconds, told.append))
    windows, resample_ms = timed(lambda: embedder.windows(wave, rate_hz))
    inputs, front_end_ms = timed(lambda: embedder.prepare(windows))
    levels = [level_dbfs(window) for window in windows]
    seconds, channels = len(wave) / rate_hz, wave.shape[1]
    return Clip(seconds, rate_hz, channels, levels, inputs, tuple(told), decode_ms, resample_ms, front_end_ms)


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result of some work, and how long it took in milliseconds."""
    start = time.perf_counter()
    result = work()
    return result, 1000 * (time.perf_counter() - start)
