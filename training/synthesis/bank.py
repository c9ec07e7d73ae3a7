"""Write a data set of synthesised sounds in ESC-50's layout, for users without recordings.

    python -m training.synthesis --out data/synthetic --clips-per-class 24 --seed 0

    DIR/audio/{fold}-{source}-{take}-{target}.wav   16 kHz, 16-bit, mono, 3.6 to 5.0 s
    DIR/meta/esc50.csv                              filename, fold, target, category, esc10, src_file, take
    DIR/synthesised.json                            the seed and the counts
    DIR/README.md                                   says that nothing was recorded, and how the files were made

Category names and target numbers are those of ESC-50. A source is one random draw of a sound's size, tempo, timbre and
room. Its takes A and B differ only in noise and timing, so both are in one fold. The same seed gives the same bytes on
the same machine.
"""

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from rich.table import Table

from serving.command_line import run_command, show
from serving.errors import UsageError
from serving.files.new_folder import new_folder
from serving.progress import track
from training.synthesis import house, nature, street
from training.synthesis.building_blocks import Rng, Wave, record_in_room

RATE_HZ = 16_000  # the networks' sampling rate; a higher one would be resampled
SHORTEST_S, LONGEST_S = 3.6, 5.0
FOLDS = 5
MARKER = "synthesised.json"  # only folders with this file are replaced, never real recordings
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
CHILDREN_PER_TAKE = 100  # upper bound of the generators that one take spawns

Sound = Callable[[Rng, int, int], Wave]

# ESC-50's target number, and the function with the category's name.
_TABLE: tuple[tuple[int, Sound], ...] = (
    (0, nature.dog),
    (4, nature.frog),
    (9, nature.crow),
    (10, nature.rain),
    (11, nature.sea_waves),
    (12, nature.crackling_fire),
    (13, nature.crickets),
    (14, nature.chirping_birds),
    (15, nature.water_drops),
    (16, nature.wind),
    (19, nature.thunderstorm),
    (25, house.footsteps),
    (30, house.door_wood_knock),
    (32, house.keyboard_typing),
    (36, house.vacuum_cleaner),
    (37, house.clock_alarm),
    (38, house.clock_tick),
    (39, house.glass_breaking),
    (49, house.hand_saw),
    (40, street.helicopter),
    (42, street.siren),
    (43, street.car_horn),
    (44, street.engine),
    (46, street.church_bells),
)
SOUNDS: dict[str, Sound] = {sound.__name__: sound for _, sound in _TABLE}
TARGETS: dict[str, int] = {sound.__name__: target for target, sound in _TABLE}
ESC10 = frozenset({"dog", "rain", "sea_waves", "crackling_fire", "clock_tick", "helicopter"})

_README = """# Synthesised sounds

Nothing here was recorded. {clips} clips of {classes} kinds of sound, computed by

    python -m training.synthesis --out DIR --clips-per-class {clips_per_class} --seed {seed}

Layout, category names and target numbers are those of ESC-50 (K. J. Piczak, 2015); the sounds are not.
Results on them show that the programs work, not how well a network recognises real sounds.
"""


@dataclass(frozen=True)
class SynthesisOptions:
    """Write a data set of synthesised sounds, in ESC-50's layout."""

    out: Path = Path("data/synthetic")
    """the folder to write"""
    clips_per_class: int = 24
    """clips of each kind of sound, spread evenly over the five folds (at least 5)"""
    seed: int = 0
    """the same seed gives the same files"""
    overwrite: bool = False
    """replace the folder if it exists"""


@dataclass(frozen=True)
class PlannedClip:
    """One file to write: which sound, which draw of it, which take (0 = A, 1 = B), in which fold (1-5)."""

    category: str
    fold: int
    source: int
    take: int

    @property
    def filename(self) -> str:
        """As in ESC-50: 3-1600007-B-15.wav"""
        return f"{self.fold}-{self.source}-{'AB'[self.take]}-{TARGETS[self.category]}.wav"


def plan_clips(category: str, clips_per_class: int) -> list[PlannedClip]:
    """The clips of one class. Folds differ by at most one clip; in each fold, every third source has two takes.

    A source's number is unique in the data set: 100 000 (target + 1) + a running number.
    """
    clips, source = [], 100_000 * (TARGETS[category] + 1)
    for fold in range(1, FOLDS + 1):
        wanted = clips_per_class // FOLDS + (fold <= clips_per_class % FOLDS)
        first = source
        while wanted:
            takes = min(wanted, 2 if (source - first) % 3 == 0 else 1)
            clips += [PlannedClip(category, fold, source, take) for take in range(takes)]
            source, wanted = source + 1, wanted - takes
    return clips


def synthesise(clip: PlannedClip, seed: int) -> Wave:
    """One clip, [n_samples] float32 in [-1, 1] at RATE_HZ."""
    # The takes of a source share the generator that draws size, tempo and room. Noise and timing come from child
    # generators: take B starts as if those of take A had been spawned already.
    origin = np.random.SeedSequence([seed, clip.source], n_children_spawned=CHILDREN_PER_TAKE * clip.take)
    rng = np.random.default_rng(origin)
    take = rng.spawn(1)[0]
    length_s = LONGEST_S if take.uniform() < 0.7 else take.uniform(SHORTEST_S, LONGEST_S)
    dry = SOUNDS[clip.category](rng, round(length_s * RATE_HZ), RATE_HZ)
    return record_in_room(dry, rng, RATE_HZ)


def write_bank(out: Path, clips_per_class: int = 24, seed: int = 0, overwrite: bool = False) -> dict[str, Any]:
    """Write the whole data set. `out` appears when it is complete. Progress goes to stderr.

    returns  out, classes, clips, seconds (run time), audio_seconds (of sound)
    errors   UsageError: too few or too many clips, a negative seed, `out` cannot be written, or it exists and
             `overwrite` is false
    """
    if not FOLDS <= clips_per_class <= 10_000:
        raise UsageError(
            f"--clips-per-class: got {clips_per_class}; wanted {FOLDS} to 10000, so that every fold has one; try 24"
        )
    if seed < 0:
        raise UsageError(f"--seed: got {seed}; wanted 0 or more")
    started, n_samples = time.perf_counter(), 0
    clips = [clip for category in SOUNDS for clip in plan_clips(category, clips_per_class)]
    with new_folder(out, overwrite, MARKER) as folder:
        (folder / "audio").mkdir()
        (folder / "meta").mkdir()
        for clip in track(clips, "synthesising"):
            wave = synthesise(clip, seed)
            n_samples += len(wave)
            content = io.BytesIO()  # libsndfile does not say why a file cannot be written
            soundfile.write(content, wave, RATE_HZ, format="WAV", subtype="PCM_16")
            (folder / "audio" / clip.filename).write_bytes(content.getvalue())
        _write_meta(folder / "meta" / "esc50.csv", clips)
        facts = {"clips": len(clips), "classes": len(SOUNDS), "seed": seed}
        (folder / MARKER).write_text(json.dumps(facts) + "\n")
        (folder / "README.md").write_text(_README.format(clips_per_class=clips_per_class, **facts))
    return {
        "out": str(out),
        "classes": len(SOUNDS),
        "clips": len(clips),
        "seconds": round(time.perf_counter() - started, 1),
        "audio_seconds": round(n_samples / RATE_HZ, 1),
    }


def _write_meta(path: Path, clips: Sequence[PlannedClip]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for clip in clips:
            target, esc10 = TARGETS[clip.category], clip.category in ESC10
            rows.writerow((clip.filename, clip.fold, target, clip.category, esc10, clip.source, "AB"[clip.take]))


def _work(options: SynthesisOptions) -> dict[str, Any]:
    result = write_bank(options.out, options.clips_per_class, options.seed, options.overwrite)
    table = Table()
    for heading in ("category", "target", "sources", "clips", "clips in folds 1-5"):
        table.add_column(heading, justify="left" if heading == "category" else "right")
    for category in SOUNDS:
        clips = plan_clips(category, options.clips_per_class)
        sources, folds = {clip.source for clip in clips}, Counter(clip.fold for clip in clips)
        numbers = (TARGETS[category], len(sources), len(clips))
        table.add_row(category, *map(str, numbers), " ".join(map(str, folds.values())))
    show(table, f"{options.out}: {result['clips']} clips, {result['audio_seconds'] / 60:.0f} min of sound")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 2 for wrong input."""
    return run_command(SynthesisOptions, _work, "python -m training.synthesis", argv)
