"""Clips -> log-mel frames, computed once and cached on disk.

The cache holds each clip's log-mel frames, not its windows: a clip's frames contain every window that serving
would cut (a window starts a whole number of frames after the last), and random crops besides.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray
from rich.progress import track

from serving.atomic_write import write_atomically
from serving.audio import Recording, Window, warn_in_python
from serving.bundle import new_folder, record_of
from serving.command_line import progress_console
from serving.cores import usable_cores
from serving.errors import AudioError, DataError
from serving.log_mel import LogMelConfig
from training.data.clips import Clip
from training.data.file_lock import folder_lock
from training.log_mel_module import LogMel

INDEX = "index.npz"
MOST_NAMED = 50  # recordings in one error
CACHE_VERSION = 3  # raised when the meaning of the cached numbers changes
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # not there, or damaged


@dataclass(frozen=True)
class Frames:
    """Log-mel frames of several clips, end to end.

    values    [total_frames, 64] float32
    starts    [n_clips] first frame of each clip
    counts    [n_clips] frames of each clip, at least window_frames
    windows   [n_clips] how many windows serving cuts from each clip
    """

    values: NDArray[np.float32]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    windows: NDArray[np.int64]
    window_frames: int
    config: LogMelConfig

    def cut(self, clip: int) -> NDArray[np.float32]:
        """The windows that serving cuts from a clip: [n_windows, window_frames, 64]."""
        start, frames = int(self.starts[clip]), self.window_frames
        return np.stack(
            [self.values[start + i * frames : start + (i + 1) * frames] for i in range(int(self.windows[clip]))]
        )

    def crop(self, clips: NDArray[np.int64], rng: np.random.Generator, frames: int) -> NDArray[np.float32]:
        """Frames from a random place of each clip, at most a window's: [len(clips), frames, 64]."""
        first = self.starts[clips] + rng.integers(0, self.counts[clips] - frames + 1)
        return self.values[first[:, None] + np.arange(frames)]


@dataclass(frozen=True)
class ClipSet:
    """Clips to train or judge on: rows of a `Frames`, and their labels among the seen classes."""

    frames: Frames
    clips: NDArray[np.int64]
    labels: NDArray[np.int64]


def load_frames(
    clips: Sequence[Clip],
    config: LogMelConfig,
    window: Window,
    cache_dir: Path,
    warn: Callable[[str], None] = warn_in_python,
) -> Frames:
    """Log-mel frames of the clips, from the cache where it has them.

    The cache's key is the SHA-256 of all that the numbers depend on: the recordings' contents, the front end, the
    window, and the versions of the decoder and the resampler.
    warn     called with a line for each recording that could be read only in part
    errors   UnreadableError naming all recordings that cannot be read; UsageError where the cache cannot be written
    """
    folder = cache_dir / f"log-mel-{_key(clips, config, window)}"
    notes = folder.with_name(f"{folder.name}.notes.json")  # what decoding told, for runs that need not decode again
    known = _read_notes(notes)
    if known["unreadable"]:
        raise UnreadableError(_by_path(clips, known["unreadable"]))
    told: dict[int, str] = {}
    faults: dict[int, str] = {}
    waves = [partial(_decode, clip, window.rate_hz, row, told, faults) for row, clip in enumerate(clips)]

    def refuse() -> None:
        write_atomically(notes, lambda path: path.write_text(json.dumps({"unreadable": faults, "partly": told})))
        if faults:
            raise UnreadableError(_by_path(clips, faults))

    frames = cached_frames(folder, waves, "decoding", config, window, refuse)
    partly = told or _read_notes(notes)["partly"]
    for line in _by_path(clips, partly).values():
        warn(line)
    return frames


class UnreadableError(DataError):
    """Recordings of a data set that cannot be read. reasons: by path."""

    def __init__(self, reasons: dict[Path, str]):
        self.reasons = reasons
        named = "; ".join(list(reasons.values())[:MOST_NAMED])
        more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
        count = "a recording" if len(reasons) == 1 else f"{len(reasons)} recordings"
        super().__init__(
            f"{count} cannot be read: {named}{more}; mend them, remove them from the data set, or leave them out with "
            "--skip-unreadable"
        )


def _read_notes(path: Path) -> dict[str, dict[int, str]]:
    try:
        notes = json.loads(path.read_text())
        return {name: {int(row): line for row, line in notes[name].items()} for name in ("unreadable", "partly")}
    except UNREADABLE:
        return {"unreadable": {}, "partly": {}}


def _by_path(clips: Sequence[Clip], lines: dict[int, str]) -> dict[Path, str]:
    """Lines by the recordings' paths, in the recordings' order; the file may have moved since a line was written."""
    return {
        clips[row].path: f"{clips[row].path}: {line}" for row, line in sorted(lines.items()) if 0 <= row < len(clips)
    }


def _decode(
    clip: Clip, rate_hz: int, row: int, told: dict[int, str], faults: dict[int, str]
) -> NDArray[np.float32] | None:
    """A clip's wave; None: it cannot be read, and its row's fault is why."""
    name = f"{clip.path}: "
    try:
        recording = Recording.from_file(clip.path, rate_hz)
    except AudioError as error:
        faults[row] = str(error).removeprefix(name)
        return None
    if recording.warnings:
        told[row] = "; ".join(line.removeprefix(name) for line in recording.warnings)
    return recording.wave


def cached_frames(
    folder: Path,
    waves: Sequence[Callable[[], NDArray[np.float32] | None]],
    doing: str,
    config: LogMelConfig,
    window: Window,
    made: Callable[[], None] = lambda: None,
) -> Frames:
    """Log-mel frames of mono waves at the window's rate, each made once, by a call, and kept in `folder`.

    made   called when all were made, before anything is kept; raises where one of them is None
    """
    frames = window.hop_samples // config.hop_samples
    try:
        return _read(folder, frames, config)
    except UNREADABLE:
        with folder_lock(folder):
            try:  # once more: another training may have made it while this one waited
                return _read(folder, frames, config)
            except UNREADABLE:
                shutil.rmtree(folder, ignore_errors=True)
                _compute(waves, doing, config, window, folder, made)
                return _read(folder, frames, config)


def _read(folder: Path, window_frames: int, config: LogMelConfig) -> Frames:
    with np.load(folder / INDEX, allow_pickle=False) as index:
        values = np.load(folder / "frames.npy", mmap_mode="r", allow_pickle=False)
        return Frames(values, index["starts"], index["counts"], index["windows"], window_frames, config)


def _key(clips: Sequence[Clip], config: LogMelConfig, window: Window) -> str:
    depends = {
        "version": CACHE_VERSION,
        "front_end": asdict(config),
        "window": asdict(window),
        "soundfile": soundfile.__libsndfile_version__,
        "soxr": soxr.__version__,
        "ffmpeg": version("av") if find_spec("av") else None,
        "contents": [record_of(clip.path).sha256 for clip in clips],
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def padded_wave(wave: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """A clip, zero-padded at its end as far as its last window reaches: [n_samples] float32."""
    return np.pad(wave, (0, max(0, window.reach(len(wave)) - len(wave))))


def _compute(
    waves: Sequence[Callable[[], NDArray[np.float32] | None]],
    doing: str,
    config: LogMelConfig,
    window: Window,
    folder: Path,
    made: Callable[[], None],
) -> None:
    """Make every wave once, and write frames.npy and index.npz into a folder that appears whole."""
    log_mel = LogMel(config)

    def work(make: Callable[[], NDArray[np.float32] | None]) -> tuple[NDArray[np.float32], int]:
        wave = make()
        if wave is None:
            return np.empty((0, 0), np.float32), 0
        with torch.inference_mode():
            values = log_mel(torch.from_numpy(padded_wave(wave, window))[None])[0]
        return values.numpy(), window.count(len(wave))

    with ThreadPoolExecutor(usable_cores()) as pool:
        done = list(track(pool.map(work, waves), doing, total=len(waves), console=progress_console, transient=True))
    made()
    counts = np.array([len(values) for values, _ in done])
    windows = np.array([count for _, count in done])
    with new_folder(folder, overwrite=True, marker=INDEX, flag="--cache-dir") as temporary:
        np.save(temporary / "frames.npy", np.concatenate([values for values, _ in done]))
        np.savez(temporary / INDEX, starts=np.cumsum(counts) - counts, counts=counts, windows=windows)
