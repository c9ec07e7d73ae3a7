"""The recordings that every benchmark takes: synthesised, or the first of a folder."""

import io
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from serving.errors import AudioError, DataError
from serving.formats.names import FORMATS, sound_files

RATE_HZ = 44_100  # of the synthesised clips
DISTINCT = 32  # clips to take in turn, so that no result rests on one of them
DISTINCT_SECONDS = 600  # of synthesised sound in all of them


def synthesise(seconds: float, rng: np.random.Generator) -> bytes:
    """A tone in noise: a 16-bit mono WAV file of at least one sample at 44.1 kHz."""
    time = np.arange(max(1, round(seconds * RATE_HZ))) / RATE_HZ
    wave = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 4_000) * time) + 0.1 * rng.standard_normal(len(time))
    file = io.BytesIO()
    soundfile.write(file, wave, RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def read_recordings(folder: Path, most: int = DISTINCT) -> dict[str, bytes]:
    """Path and bytes of the first sound files below `folder`. DataError: no such folder, or none in it."""
    if not folder.is_dir():
        raise DataError(f"--recordings: {folder}: no such folder; give one with {FORMATS} files")
    paths = sound_files(folder)
    if not paths:
        raise DataError(f"--recordings: {folder}: has no {FORMATS} file; give a folder with some")
    try:
        return {str(path): path.read_bytes() for path in paths[:most]}
    except OSError as error:
        raise AudioError(f"{error.filename}: cannot be read ({error.strerror}); make it readable") from error


def gather_clips(recordings: Path | None, seconds: float, most: int = DISTINCT, seed: int = 0) -> dict[str, bytes]:
    """Name and bytes of the clips to measure on: of a folder as they are, or synthesised of this length."""
    if recordings is not None:
        return read_recordings(recordings, most)
    rng = np.random.default_rng(seed)
    n_clips = max(1, min(most, int(DISTINCT_SECONDS / seconds)))
    return {f"{i}.wav": synthesise(seconds, rng) for i in range(n_clips)}


@contextmanager
def clip_files(clips: Mapping[str, bytes], n_files: int | None = None) -> Iterator[list[Path]]:
    """The clips as files of a temporary folder; n_files: repeat them until there are so many."""
    with tempfile.TemporaryDirectory(prefix="unheard-clips-") as folder:
        paths: list[Path] = []
        for i, (name, data) in enumerate(clips.items()):
            paths.append(Path(folder, f"{i:06d}{Path(name).suffix}"))
            paths[-1].write_bytes(data)
        for i in range(len(paths), n_files or 0):
            first = paths[i % len(clips)]
            paths.append(first.with_name(f"{i:06d}{first.suffix}"))
            paths[-1].hardlink_to(first)
        yield paths[:n_files]


def told(recordings: Path | None, seconds: float) -> str:
    """Where the clips come from, in words."""
    return str(recordings) if recordings else f"synthesised, {seconds:g} s, 16-bit WAV at 44.1 kHz"
