"""Compute the log-mel frames of clips once, and cache them on disk.

The cache holds frames instead of windows. Windows start at whole frames, so every window that serving cuts, and every
random crop, is a slice of a clip's frames.
"""

import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from serving.audio import SILENT_DBFS, Recording, Window, warn_in_python
from serving.errors import AudioError, DataError, UsageError
from serving.files.atomic_write import write_atomically
from serving.log_mel import LogMelConfig
from training.data.clip_frames import ClipFrames
from training.data.clips import LabelledClip
from training.data.content_hash import content_hashes
from training.data.file_lock import folder_lock
from training.data.fingerprint import fingerprint
from training.data.frame_file import FRAMES, INDEX, one_thread_each, write_frames

MOST_NAMED = 50  # recordings that one error lists
CACHE_VERSION = 4  # raised when the meaning of the cached numbers changes
UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # raised for missing or damaged files


def load_frames(
    clips: Sequence[LabelledClip],
    config: LogMelConfig,
    window: Window,
    cache_dir: Path,
    warn: Callable[[str], None] = warn_in_python,
) -> ClipFrames:
    """The log-mel frames of clips, from the cache if it has them.

    The cache's key is a SHA-256 of everything that the numbers depend on: the recordings' contents, the front end, the
    window, and the versions of the decoders and the resampler.

    warn     called with a line for each recording that can be read only in part
    errors   UnreadableError: lists the recordings that cannot be read; UsageError: the cache cannot be written
    """
    folder = cache_dir / f"log-mel-{_key(clips, config, window)}"
    notes_path = folder.with_name(f"{folder.name}.notes.json")
    known = _read_notes(notes_path)
    if known.unreadable:
        raise UnreadableError(_by_path(clips, known.unreadable))
    notes = DecodingNotes({}, {})
    waves = [partial(_decode, clip, window.rate_hz, row, notes) for row, clip in enumerate(clips)]

    def save_notes() -> None:
        try:
            write_atomically(notes_path, lambda path: path.write_text(json.dumps(asdict(notes))))
        except OSError as error:
            raise UsageError(
                f"{notes_path}: cannot be written ({error.strerror}); free some space or give another --cache-dir"
            ) from error
        if notes.unreadable:
            raise UnreadableError(_by_path(clips, notes.unreadable))

    frames = cached_frames(folder, waves, "decoding", config, window, save_notes)
    partly = notes.partly or _read_notes(notes_path).partly
    for line in _by_path(clips, partly).values():
        warn(line)
    return frames


class UnreadableError(DataError):
    """Some recordings of a data set cannot be read. reasons: one for each path."""

    def __init__(self, reasons: dict[Path, str]):
        self.reasons = reasons
        named = "; ".join(list(reasons.values())[:MOST_NAMED])
        more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
        count = "a recording" if len(reasons) == 1 else f"{len(reasons)} recordings"
        super().__init__(
            f"{count} cannot be read: {named}{more}; repair them, remove them from the data set, or train "
            "with --skip-unreadable to leave them out"
        )


@dataclass(frozen=True)
class DecodingNotes:
    """The faults and warnings of decoding, by the clip's row. Stored beside the cache, for runs that do not decode."""

    unreadable: dict[int, str]
    partly: dict[int, str]


def _read_notes(path: Path) -> DecodingNotes:
    """The stored notes; empty ones if the file is missing or damaged."""
    try:
        stored = json.loads(path.read_text())
        return DecodingNotes(
            *({int(row): line for row, line in stored[name].items()} for name in ("unreadable", "partly"))
        )
    except UNREADABLE:
        return DecodingNotes({}, {})


def _by_path(clips: Sequence[LabelledClip], lines: dict[int, str]) -> dict[Path, str]:
    """Lines by the clips' paths, in the clips' order. The paths are today's; files may have moved since decoding."""
    return {
        clips[row].path: f"{clips[row].path}: {line}" for row, line in sorted(lines.items()) if 0 <= row < len(clips)
    }


def _decode(clip: LabelledClip, rate_hz: int, row: int, notes: DecodingNotes) -> NDArray[np.float32] | None:
    """A clip's wave [n_samples], with faults and warnings added to the notes; None if it cannot be read."""
    name = f"{clip.path}: "
    try:
        recording = Recording.from_file(clip.path, rate_hz)
    except AudioError as error:
        notes.unreadable[row] = str(error).removeprefix(name)
        return None
    if recording.warnings:
        notes.partly[row] = "; ".join(line.removeprefix(name) for line in recording.warnings)
    return recording.wave


def cached_frames(
    folder: Path,
    waves: Sequence[Callable[[], NDArray[np.float32] | None]],
    title: str,
    config: LogMelConfig,
    window: Window,
    before_saving: Callable[[], None] = lambda: None,
) -> ClipFrames:
    """The log-mel frames of mono waves, from `folder` if they are there; otherwise they are computed and saved there.

    waves          functions that return a wave [n_samples] at the window's rate, each called once; None: no wave
    title          of the progress bar
    before_saving  called when all waves are made; raises if one of them is None
    """
    frames = window.hop_samples // config.hop_samples
    # Also where the cache has them: to set its number of threads changes how PyTorch asks MKL for products, so that a
    # resumed run, which finds the cache, computes as the first one did.
    with one_thread_each():
        try:
            return _read(folder, frames, config)
        except UNREADABLE:
            with folder_lock(folder):
                try:  # again: another process may have written it while this one waited for the lock
                    return _read(folder, frames, config)
                except UNREADABLE:
                    shutil.rmtree(folder, ignore_errors=True)
                    write_frames(waves, title, config, window, folder, before_saving)
                    return _read(folder, frames, config)


def _read(folder: Path, window_frames: int, config: LogMelConfig) -> ClipFrames:
    with np.load(folder / INDEX, allow_pickle=False) as index:
        values = np.load(folder / FRAMES, mmap_mode="r", allow_pickle=False)
        clips = index["starts"], index["counts"], index["windows"]
        return ClipFrames(values, index["heard"], *clips, window_frames, config)


def _key(clips: Sequence[LabelledClip], config: LogMelConfig, window: Window) -> str:
    depends = frames_depend_on(config, window) | {
        "soundfile": soundfile.__libsndfile_version__,
        "soxr": soxr.__version__,
        "ffmpeg": version("av") if find_spec("av") else None,
        "contents": content_hashes([clip.path for clip in clips]),  # None: unreadable, which decoding will report
    }
    return fingerprint(depends)


def frames_depend_on(config: LogMelConfig, window: Window) -> dict[str, Any]:
    """All but the sounds that the contents of `cached_frames` depend on, for the name of its folder."""
    facts = {"version": CACHE_VERSION, "silent_dbfs": SILENT_DBFS}
    return facts | {"front_end": asdict(config), "window": asdict(window)}
