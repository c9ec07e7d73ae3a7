"""Small recordings of several sounds, embedded and indexed, for the tests of the search."""

from pathlib import Path

import numpy as np
import soundfile

from serving.embed import main as embed
from serving.index import main as index
from tests.conftest import RATE_HZ, small_sound

WINDOW_S, HOP_S = 4.815, 4.8


def write_recording(path: Path, kinds: tuple[str, ...], seed: int) -> None:
    """A recording of sounds of one hop each. "zeros" is digital silence; "tone+noise" is both at the same time."""
    rng = np.random.default_rng(seed)
    sounds = []
    for kind in kinds:
        parts = [small_sound(name, rng, HOP_S) for name in kind.split("+") if name != "zeros"]
        sound = np.sum(parts, axis=0) if parts else np.zeros(round(HOP_S * RATE_HZ))
        sound[: round((WINDOW_S - HOP_S) * RATE_HZ)] = 0  # which the window before hears too
        sounds.append(sound)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(np.concatenate(sounds), -1, 1), RATE_HZ)


def write_sounds(folder: Path) -> None:
    """Four recordings, one of them with a time in its name."""
    write_recording(folder / "a" / "20190318_235955.wav", ("tone", "zeros", "clicks", "tone"), 1)
    write_recording(folder / "b.flac", ("noise", "tone", "noise"), 2)
    write_recording(folder / "c.wav", ("clicks", "clicks"), 3)
    write_recording(folder / "silent.wav", ("zeros",), 4)


def index_sounds(bundle: Path, sounds: Path, folder: Path) -> Path:
    """Embed the windows of a folder's recordings into folder/sounds.parquet, and index them: the index's folder."""
    parquet, out = folder / "sounds.parquet", folder / "sounds.index"
    assert embed([str(bundle), str(sounds), "--per", "window", "--out", str(parquet), "--threads", "2"]) == 0
    assert index([str(parquet), "--bundle", str(bundle), "--out", str(out)]) == 0
    return out
