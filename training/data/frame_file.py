"""Write the log-mel frames of many clips, each as soon as it is computed: they may be larger than the memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from serving.audio import Window
from serving.cores import usable_cores
from serving.files.new_folder import new_folder
from serving.log_mel import LogMelConfig
from serving.progress import track
from training.data.clip_frames import heard_frames, padded_wave
from training.log_mel_module import LogMel

FRAMES = "frames.npy"
INDEX = "index.npz"
MOST_FRAMES = 6000  # whose log-mels are computed at a time: a minute
AHEAD = 2  # clips for each thread that may be computed before they are written

MakeWave = Callable[[], NDArray[np.float32] | None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Clip:
    """values [n_frames, 64], heard [n_frames], and the number of windows that serving cuts from the clip."""

    values: NDArray[np.float32]
    heard: NDArray[np.bool_]
    windows: int


def write_frames(
    waves: Sequence[MakeWave],
    title: str,
    config: LogMelConfig,
    window: Window,
    folder: Path,
    before_saving: Callable[[], None],
) -> None:
    """Compute the frames of all waves, and write frames.npy and index.npz; the folder appears only when complete.

    waves, title, before_saving   as of `frame_cache.cached_frames`
    errors                        UsageError: the folder cannot be written

    There is a thread for each core, so PyTorch should compute within it: see `one_thread_each`.
    """
    log_mel = LogMel(config)

    def work(make: MakeWave) -> _Clip:
        wave = make()
        if wave is None:
            return _Clip(np.empty((0, config.mel_bands), np.float32), np.empty(0, np.bool_), 0)
        padded = padded_wave(wave, window)
        return _Clip(_log_mel_in_parts(log_mel, padded), heard_frames(padded, config), window.count(len(wave)))

    counts: list[int] = []
    heard: list[NDArray[np.bool_]] = []
    windows: list[int] = []
    with new_folder(folder, overwrite=True, marker=INDEX, flag="--cache-dir") as temporary:
        with (temporary / FRAMES).open("wb") as file:
            _write_header(file, 0, config.mel_bands)
            for clip in track(_in_order(work, waves), title, total=len(waves)):
                file.write(clip.values.data)
                counts.append(len(clip.values))
                heard.append(clip.heard)
                windows.append(clip.windows)
            file.seek(0)
            _write_header(file, sum(counts), config.mel_bands)
        before_saving()
        starts = np.cumsum(counts) - counts
        np.savez(temporary / INDEX, heard=np.concatenate(heard), starts=starts, counts=counts, windows=windows)


def _write_header(file: BinaryIO, n_frames: int, mel_bands: int) -> None:
    """NumPy's header of an array [n_frames, mel_bands] float32. It has the same size for every number of frames."""
    facts = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": (n_frames, mel_bands)}
    np.lib.format.write_array_header_1_0(file, facts)


def _in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` of each item by a thread for each core, in the items' order; only AHEAD results a thread wait."""
    threads = usable_cores()
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let PyTorch compute in the thread that calls it: threads of its own beside one for each core take twice the time.

    The log-mel is the same, bit for bit.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.inference_mode()
def _log_mel_in_parts(log_mel: LogMel, wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The log-mel [n_frames, 64] of a wave [n_samples] of any length: at once, an hour would take gigabytes."""
    config, samples = log_mel.config, torch.from_numpy(wave)
    n_frames = config.frames(len(wave))
    values = np.empty((n_frames, config.mel_bands), np.float32)
    for first in range(0, n_frames, MOST_FRAMES):
        last = min(first + MOST_FRAMES, n_frames)
        start, end = first * config.hop_samples, (last - 1) * config.hop_samples + config.window_samples
        values[first:last] = log_mel(samples[None, start:end])[0]
    return values
