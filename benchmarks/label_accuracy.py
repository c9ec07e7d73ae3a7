"""Measure how well `serving.label` finds sounds in a long recording: clips of ESC-50 with gaps, joined to an hour.

    python -m benchmarks.label_accuracy bundles/NAME --data-dir ESC-50 --fold 4

The clips are those of one recording fold, so that a bundle that was trained with `--test-fold` has heard none of them;
clips of classes that it did not train on are unseen in any case. All numbers come from tables that the command writes.

average precision   by class, over all windows in the order of the label's probability (or similarity): the area under
                    precision over recall, in steps. A window is right if at least half of it lies in a clip of its
                    label
precision, recall   of the table as the command writes it: rows of which at least half lies in clips of their label;
                    clips that such a row touches
A clip counts from its first to its last sample that is louder than the noise between the clips by AUDIBLE_DB, because
many clips of ESC-50 are padded with zeros.
"""

import io
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow
import soundfile
import tyro
from pyarrow import parquet
from rich.table import Table

from benchmarks.esc50_list import read_esc50_list
from benchmarks.inputs import check_range, check_values
from benchmarks.label_scores import Clip, precision_and_recall, precision_by_class
from serving.audio import Recording
from serving.bundle.bundle import open_bundle
from serving.bundle.bundle_files import ZEROSHOT
from serving.command_line import run_command, say, show
from serving.errors import UsageError
from serving.label import main as label
from serving.zeroshot.label_text import join_labels
from serving.zeroshot.zeroshot_file import parse_zeroshot

RATE_HZ = 44_100
AUDIBLE_DB = 10
MOST_SECONDS = 6 * 3600  # 4 GB of samples
SCORES = ("probability", "similarity")
RATES = ("precision", "recall")


@dataclass(frozen=True)
class Options:
    """Measure the average precision of labels by class in an hour of ESC-50's clips with gaps."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    data_dir: Path
    """folder of ESC-50, or of a part of it"""
    fold: int = 4
    """ESC-50's recording fold whose clips are used: one that the bundle was not trained on"""
    seconds: float = 3600.0
    """length of the recording; the gaps fill what the clips leave"""
    gap_dbfs: float = -60.0
    """peak level of the white noise under everything; -70 and below counts as silence"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """each draws another order of the clips and other gaps"""
    probabilities: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9)
    """least probabilities for which precision and recall are stated"""
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4)
    """least similarities for which precision and recall are stated"""
    hop_seconds: float | None = None
    """as for `python -m serving.label`"""


def check_options(options: Options) -> None:
    """UsageError: a flag is out of its range."""
    check_range("--seconds", options.seconds, 1, MOST_SECONDS)
    check_range("--gap-dbfs", options.gap_dbfs, -300, 0)
    check_range("--hop-seconds", options.hop_seconds, 0.001, MOST_SECONDS)
    check_values("--seeds", options.seeds, 0, 2**32 - 1)
    check_values("--probabilities", options.probabilities, 0, 1)
    check_values("--thresholds", options.thresholds, -1, 1)


def measure(options: Options) -> dict[str, Any]:
    """Make the recordings, label them, and return the result that is printed as JSON."""
    check_options(options)
    zeroshot = parse_zeroshot(open_bundle(options.bundle).read(ZEROSHOT), str(options.bundle))
    seen = dict(zip(zeroshot.class_names, map(bool, zeroshot.seen), strict=True))
    clips = [clip for clip in read_clips(options.data_dir, options.fold) if clip.label in seen]
    if not clips:
        raise UsageError(f"{options.data_dir}: has no clip of fold {options.fold} of a class of this bundle")
    say(f"{len(clips)} clips of {len({clip.label for clip in clips})} classes")
    rounds: list[tuple[dict[str, dict[str, float]], list[dict[str, Any]]]] = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(_measure_once(options, clips, Path(folder), seed))
    by_class = {
        score: {name: float(np.mean([found[score][name] for found, _ in rounds])) for name in rounds[0][0][score]}
        for score in SCORES
    }
    result = {
        "bundle": str(options.bundle),
        "clips": len(clips),
        "seconds": options.seconds,
        "gap_dbfs": options.gap_dbfs,
        "average_precision": {
            score: {
                kind: summarise(
                    [[found[score][name] for name in seen if name in found[score]] for found, _ in rounds], of
                )
                for kind, of in _kinds(by_class[score], seen).items()
            }
            for score in SCORES
        },
        "by_class": {
            score: {name: _rounded(value) for name, value in found.items()} for score, found in by_class.items()
        },
        "tables": [_mean_of([tables[i] for _, tables in rounds]) for i in range(len(rounds[0][1]))],
    }
    _show(result, seen)
    return result


def _kinds(by_class: Mapping[str, float], seen: Mapping[str, bool]) -> dict[str, list[int]]:
    """Places of the seen and of the unseen classes among those that were measured, in the order of `seen`."""
    measured = [name for name in seen if name in by_class]
    kinds = {"seen": True, "unseen": False}
    places = {kind: [i for i, name in enumerate(measured) if seen[name] == is_seen] for kind, is_seen in kinds.items()}
    return {kind: of for kind, of in places.items() if of}


def _mean_of(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of the numbers of each recording's table; the rule that made the tables stays as it is."""
    numbers = {key: round(float(np.mean([table[key] for table in tables])), 4) for key in ("rows", *RATES)}
    return {**tables[0], **numbers}


def read_clips(data_dir: Path, fold: int) -> list[Clip]:
    """The clips of a recording fold. Errors as `read_esc50_list`."""
    return read_esc50_list(data_dir, lambda path, row: Clip(path, row["category"]), fold)


def join_clips(clips: Sequence[Clip], seconds: float, gap_dbfs: float, seed: int, path: Path) -> list[Clip]:
    """Write a recording of the clips in random order, with random gaps between, and return where each clip is heard.

    The lengths of the gaps are drawn evenly (a Dirichlet distribution), and their sum fills the recording.
    """
    rng = np.random.default_rng(seed)
    order = [clips[i] for i in rng.permutation(len(clips))]
    waves = [Recording.from_file(clip.path, RATE_HZ).wave for clip in order]
    n_samples, n_sound = round(seconds * RATE_HZ), sum(map(len, waves))
    if n_sound >= n_samples:
        raise UsageError(f"--seconds: got {seconds:g}; wanted more than the clips have, {n_sound / RATE_HZ:.0f}")
    ends = np.cumsum(rng.dirichlet(np.ones(len(waves) + 1)) * (n_samples - n_sound)).astype(int)
    sound = (10 ** (gap_dbfs / 20) * rng.uniform(-1, 1, n_samples)).astype(np.float32)
    placed, at = [], 0
    for clip, wave, gap in zip(order, waves, ends, strict=False):
        first = gap + at
        sound[first : first + len(wave)] += wave
        loud = np.flatnonzero(np.abs(wave) > 10 ** ((gap_dbfs + AUDIBLE_DB) / 20))
        if len(loud):
            begin, end = (first + loud[0]) / RATE_HZ, (first + loud[-1] + 1) / RATE_HZ
            placed.append(Clip(clip.path, clip.label, float(begin), float(end)))
        at += len(wave)
    soundfile.write(path, np.clip(sound, -1, 1), RATE_HZ)
    return placed


def _measure_once(
    options: Options, clips: Sequence[Clip], folder: Path, seed: int
) -> tuple[dict[str, dict[str, float]], list[dict[str, Any]]]:
    """Average precision by score and class, and precision and recall by rule, of one recording."""
    (folder / "sound").mkdir()
    placed = join_clips(clips, options.seconds, options.gap_dbfs, seed, folder / "sound" / "hour.flac")
    names = sorted({clip.label for clip in clips})

    def labelled(name: str, *flags: str) -> pyarrow.Table:
        out = folder / f"{name}.parquet"
        flags = ("--labels", join_labels(names), "--embeddings", str(folder / "windows.parquet"), *flags)
        if options.hop_seconds is not None:
            flags = (*flags, "--hop-seconds", str(options.hop_seconds))
        with redirect_stdout(io.StringIO()):
            if label([str(options.bundle), str(folder / "sound"), "--out", str(out), *flags]):
                raise UsageError("python -m serving.label refused the recording; its error is above")
        return parquet.read_table(out)

    every = labelled("every", "--no-merge", "--threshold", "-1", "--probability", "0", "--top", str(len(names)))
    rules = [{"probability": least, "threshold": -1.0} for least in options.probabilities]
    rules += [{"probability": 0.0, "threshold": least} for least in options.thresholds]
    tables = []
    for i, rule in enumerate(rules):
        flags = [word for name, least in rule.items() for word in (f"--{name}", str(least))]
        tables.append(rule | precision_and_recall(labelled(f"rule-{i}", *flags), placed))
    return {score: precision_by_class(every, placed, score) for score in SCORES}, tables


def summarise(values: Sequence[Sequence[float]], of: Sequence[int]) -> dict[str, float | None]:
    """Mean over classes and recordings [n_seeds, n_classes]; standard error over classes; spread over recordings.

    of   places of the classes that count
    None: a class has no right row
    """
    table = np.array(values)[:, of]
    by_class, by_seed = np.nanmean(table, axis=0), np.nanmean(table, axis=1)
    return {
        "classes": table.shape[1],
        "mean": _rounded(by_class.mean()),
        "standard_error": _rounded(by_class.std(ddof=1) / np.sqrt(len(by_class))) if len(by_class) > 1 else 0.0,
        "lowest_recording": _rounded(by_seed.min()),
        "highest_recording": _rounded(by_seed.max()),
    }


def _rounded(value: float) -> float | None:
    """For JSON, which has no NaN: None."""
    return None if np.isnan(value) else round(float(value), 4)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _show(result: dict[str, Any], seen: Mapping[str, bool]) -> None:
    by_class = result["by_class"]
    table = Table("class", "seen in training", *(f"average precision by {score}" for score in SCORES))
    for name in sorted(by_class["probability"], key=lambda name: -(by_class["probability"][name] or 0)):
        table.add_row(name, "yes" if seen[name] else "no", *(_percent(by_class[score][name]) for score in SCORES))
    for kind in result["average_precision"]["probability"]:
        means = [result["average_precision"][score][kind]["mean"] for score in SCORES]
        table.add_row("mean", kind, *map(_percent, means))
    show(table, result["bundle"])
    rules = Table("least probability", "least similarity", "rows", *RATES)
    for row in result["tables"]:
        rules.add_row(*(str(row[key]) for key in (*SCORES[:1], "threshold", "rows", *RATES)))
    show(rules, "tables")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    return run_command(Options, measure, "python -m benchmarks.label_accuracy", argv)


if __name__ == "__main__":
    raise SystemExit(main())
