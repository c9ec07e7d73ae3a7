"""What a benchmark is given: bundles, recordings or synthesised clips, and flags with several values."""

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
from numpy.typing import NDArray

from serving.audio import decode_audio
from serving.audio.file_names import FORMATS, sound_files
from serving.bundle.bundle import Bundle, open_bundle
from serving.errors import AudioError, DataError, UsageError

RATE_HZ = 44_100  # of the synthesised clips
DISTINCT_CLIPS = 32  # so that no result rests on a single clip
DISTINCT_SECONDS = 600  # of synthesised sound in all clips together

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class InputClips:
    """The clips of one measurement.

    source   where they come from, in words
    encoded  name -> the bytes of a sound file
    """

    source: str
    encoded: dict[str, bytes]

    def __len__(self) -> int:
        return len(self.encoded)

    def decode(self) -> list[tuple[NDArray[np.float32], int]]:
        """Each clip's wave [n_samples, n_channels] and its rate in Hz. AudioError: a file cannot be decoded."""
        return [decode_audio(data, name) for name, data in self.encoded.items()]

    @contextmanager
    def as_files(self, n_files: int | None = None) -> Iterator[list[Path]]:
        """The clips as files of a temporary folder, repeated until there are n_files."""
        with tempfile.TemporaryDirectory(prefix="unheard-clips-") as folder:
            paths: list[Path] = []
            for i, (name, data) in enumerate(self.encoded.items()):
                paths.append(Path(folder, f"{i:06d}{Path(name).suffix}"))
                paths[-1].write_bytes(data)
            for i in range(len(paths), n_files or 0):
                first = paths[i % len(self)]
                paths.append(first.with_name(f"{i:06d}{first.suffix}"))
                paths[-1].hardlink_to(first)
            yield paths[:n_files]


def input_clips(recordings: Path | None, seconds: float, most: int = DISTINCT_CLIPS, seed: int = 0) -> InputClips:
    """At most `most` clips: recordings of a folder, unchanged, or without one synthesised clips of a given length.

    errors   DataError: no such folder, or no sound file in it; AudioError: a file cannot be read
    """
    if recordings is not None:
        return InputClips(str(recordings), _read_recordings(recordings, most))
    rng = np.random.default_rng(seed)
    n_clips = max(1, min(most, int(DISTINCT_SECONDS / seconds)))
    source = f"synthesised, {seconds:g} s, 16-bit WAV at 44.1 kHz"
    return InputClips(source, {f"{i}.wav": synthesise_clip(seconds, rng) for i in range(n_clips)})


def synthesise_clip(seconds: float, rng: np.random.Generator) -> bytes:
    """A tone in noise: a 16-bit mono WAV file at 44.1 kHz with at least one sample."""
    time = np.arange(max(1, round(seconds * RATE_HZ))) / RATE_HZ
    wave = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 4_000) * time) + 0.1 * rng.standard_normal(len(time))
    file = io.BytesIO()
    soundfile.write(file, wave, RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _read_recordings(folder: Path, most: int) -> dict[str, bytes]:
    if not folder.is_dir():
        raise DataError(f"--recordings: {folder}: no such folder; give one with {FORMATS} files")
    paths = sound_files(folder)
    if not paths:
        raise DataError(f"--recordings: {folder}: has no {FORMATS} file; give a folder with some")
    try:
        return {str(path): path.read_bytes() for path in paths[:most]}
    except OSError as error:
        raise AudioError(f"{error.filename}: cannot be read ({error.strerror}); make it readable") from error


def open_bundles(folders: Sequence[Path]) -> tuple[Bundle, ...]:
    """Open bundle folders. UsageError: none was given; BundleError: one is no bundle."""
    if not folders:
        raise UsageError("BUNDLES: got none; wanted bundle folders, made with: python -m export.onnx")
    return tuple(map(open_bundle, folders))


def bundle_name(bundle: Bundle) -> str:
    """The name of the bundle's folder."""
    return bundle.folder.resolve().name


def parse_numbers(flag: str, text: str, example: str, kind: Callable[[str], Number], most: float) -> list[Number]:
    """Parse "8,1,32" into distinct positive numbers in ascending order. UsageError: anything else."""
    try:
        values = sorted({kind(part) for part in text.split(",")})
        good = all(0 < value <= most for value in values)
    except ValueError:
        values, good = [], False
    if not good:
        raise UsageError(f"{flag}: got {text}; wanted positive numbers up to {most:g}, separated by commas: {example}")
    return values


def check_values(flag: str, values: Sequence[float], least: float, most: float) -> None:
    """UsageError: no value was given, or one of them is out of its range."""
    if not values:
        raise UsageError(f"{flag}: got no number; wanted one or more of {least:g} to {most:g}")
    for value in values:
        check_range(flag, value, least, most)


def parse_names(flag: str, text: str, choices: Sequence[str]) -> list[str]:
    """Parse "int8,fp32" into some of the choices, in the order of the choices. UsageError: an unknown name."""
    wanted = {part.strip() for part in text.split(",")}
    if not wanted <= set(choices):
        raise UsageError(f"{flag}: got {text}; wanted one or more of {', '.join(choices)}, separated by commas")
    return [name for name in choices if name in wanted]


def check_range(flag: str, value: float | None, least: float, most: float = float("inf")) -> None:
    """UsageError: a number is out of its range. None, the value of a flag that was not given, is accepted."""
    if value is not None and not least <= value <= most:
        wanted = f"{least:g} or more" if most == float("inf") else f"{least:g} to {most:g}"
        raise UsageError(f"{flag}: got {value:g}; wanted {wanted}")
