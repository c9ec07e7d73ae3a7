"""Long recordings in each format that is measured: noise and tones, written block by block."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.looped_recordings import write_mp3, write_ogg

RATE_HZ = 48_000
BLOCK_S = 20  # seconds of sound that are repeated: the cost does not depend on what sounds
LOOP_S = 60.0


@dataclass(frozen=True)
class LongFormat:
    """A format of long recordings. share: of --hours; the others are written as `file_format` and `subtype`."""

    name: str
    suffix: str
    file_format: str
    subtype: str
    share: float


FORMATS = (
    LongFormat("WAV (RF64), 16 bit", ".wav", "RF64", "PCM_16", 1.0),
    LongFormat("W64, 16 bit", ".w64", "W64", "PCM_16", 1 / 8),
    LongFormat("FLAC, 16 bit", ".flac", "FLAC", "PCM_16", 1 / 8),
    LongFormat("MP3", ".mp3", "MP3", "MPEG_LAYER_III", 1 / 8),
    LongFormat("OGG Vorbis", ".ogg", "OGG", "VORBIS", 1 / 8),
    LongFormat("M4A (AAC)", ".m4a", "", "", 1 / 8),
)


def write_recording(kind: LongFormat, path: Path, seconds: float) -> float:
    """Write about `seconds` of repeated noise and tones, block by block. Returns the seconds that were written.

    MP3 and OGG come in whole minutes, or less than one.
    """
    looped = {".mp3": write_mp3, ".ogg": write_ogg}.get(kind.suffix)
    if looped:
        minute, times = np.concatenate(list(_blocks(min(seconds, LOOP_S)))), max(1, round(seconds / LOOP_S))
        looped(path, minute, RATE_HZ, times)
        return times * len(minute) / RATE_HZ
    write = _write_m4a if kind.suffix == ".m4a" else partial(_write_with_soundfile, kind)
    write(path, _blocks(seconds))
    return round(seconds * RATE_HZ) / RATE_HZ


def _blocks(seconds: float) -> Iterator[NDArray[np.int16]]:
    """Stereo sound [n_samples, 2] in 16 bits; every second block is half as loud."""
    rng = np.random.default_rng(0)
    time_s = np.arange(BLOCK_S * RATE_HZ) / RATE_HZ
    tone = 0.2 * np.sin(2 * np.pi * (300 + 50 * time_s) * time_s)[:, None]
    loud = (2**15 * (tone + 0.05 * rng.standard_normal((len(time_s), 2)))).astype(np.int16)
    both, left = (loud, loud // 2), round(seconds * RATE_HZ)
    for number in range(-(-left // len(loud))):
        yield both[number % 2][: left - number * len(loud)]


def _write_with_soundfile(kind: LongFormat, path: Path, blocks: Iterator[NDArray[np.int16]]) -> None:
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, kind.subtype, format=kind.file_format) as file:
        for block in blocks:
            file.write(block)


def _write_m4a(path: Path, blocks: Iterator[NDArray[np.int16]]) -> None:
    import av

    with av.open(str(path), "w", format="ipod") as output:
        stream = output.add_stream("aac", rate=RATE_HZ, layout="stereo", bit_rate=128_000)
        fitter = av.AudioResampler("fltp", "stereo", RATE_HZ, 1024)
        at = 0
        for block in blocks:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block).reshape(1, -1), "s16", "stereo")
            frame.sample_rate, frame.pts, at = RATE_HZ, at, at + len(block)
            for piece in fitter.resample(frame):
                output.mux(stream.encode(piece))
        for piece in fitter.resample(None):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
