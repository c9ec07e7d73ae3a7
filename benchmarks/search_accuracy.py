"""Measure how well `serving.search` finds the sounds of ESC-50, by words and by a sound.

    python -m benchmarks.search_accuracy bundles/NAME --data-dir ESC-50 --fold 4

The index holds the windows of one recording fold, so that a bundle that was trained with `--test-fold` has heard none
of them; classes that it was not trained on are unseen in any case.

by words     precision at ten: the share of the first ten windows that are of the class, by its name, by its
             description, and by both as the bundle knows them. Chance is the share of the class's windows in the index
by a sound   the same, for each clip; windows of clips from the clip's own recording do not count
and, not     clips of two classes are mixed. "A and B": the share of the first ten windows that are of such a mixture.
             "A not B": the share that are of A alone. Beside each what A alone would find
"""

import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import tyro
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.esc50_list import read_esc50_list
from benchmarks.inputs import check_range
from serving.audio import Recording
from serving.command_line import run_command, say, show
from serving.embed import main as embed
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.search.index_builder import build_index
from serving.search.phrases import Phrases
from serving.search.query import embed_sound, make_query
from serving.search.search_index import Found, SearchIndex
from serving.zeroshot import unit_rows

TOP = 10
MIXED_A_PAIR = 2  # clips of each of two classes
QUERIES = ("name", "description", "both")


@dataclass(frozen=True)
class Options:
    """Measure the precision at ten of the search by words and by a sound, on clips of ESC-50."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    data_dir: Path
    """folder of ESC-50, or of a part of it"""
    fold: int = 4
    """ESC-50's recording fold whose clips are searched: one that the bundle was not trained on"""
    pairs: int = 50
    """pairs of classes whose clips are mixed; 0: none"""
    seed: int = 0
    """draws the pairs"""


@dataclass(frozen=True)
class Clip:
    """A clip of ESC-50. source: the recording that it was cut from."""

    path: Path
    label: str
    source: str


def read_clips(data_dir: Path, fold: int) -> list[Clip]:
    """The clips of a recording fold. Errors as `read_esc50_list`."""
    return read_esc50_list(
        data_dir, lambda path, row: Clip(path, row["category"].replace("_", " "), row["src_file"]), fold
    )


def index_folder(embedder: Embedder, sounds: Path, folder: Path, name: str) -> SearchIndex:
    """Embed the windows of a folder's recordings, and index them."""
    source, out = folder / f"{name}.parquet", folder / f"{name}.index"
    with redirect_stdout(io.StringIO()):
        if embed([str(embedder.bundle.folder), str(sounds), "--per", "window", "--out", str(source)]):
            raise UsageError("python -m serving.embed refused the clips; its error is above")
    build_index(source, out, embedder.bundle)
    return SearchIndex.open(out)


def phrases_of(embedder: Embedder, name: str, kind: str) -> Phrases:
    """A class as a phrase: its name, its description, or both as the bundle has them."""
    if kind == "both":
        return Phrases(embedder.zeroshot, embedder.choose([name]))
    text = name if kind == "name" else embedder.labels.describe(name)
    vectors = embedder.labels.encode([name], {name: text})
    mean = embedder.zeroshot.text_mean
    assert mean is not None, "the text model is known"
    rows = unit_rows(vectors - mean)
    unseen = np.zeros(1, bool)
    chosen = replace(embedder.zeroshot, class_names=[name], class_vectors=rows, seen=unseen, given_targets=None)
    return Phrases(embedder.zeroshot, chosen)


def find(
    index: SearchIndex,
    embedder: Embedder,
    sound: NDArray[np.float32] | None,
    phrases: Phrases | None,
    top: int = TOP,
    n_unwanted: int = 0,
) -> list[Found]:
    """What the index finds for a sound and phrases, of which the last n_unwanted shall not be heard."""
    query = make_query(embedder.manifest.embedding_space, embedder.zeroshot, sound, phrases, n_unwanted)
    return index.search(query, top)


def precision(found: Sequence[Found], relevant: set[str]) -> float:
    """The share of TOP rows that are of the recordings `relevant`; missing rows count as wrong."""
    return sum(each.path in relevant for each in found[:TOP]) / TOP


def by_words(index: SearchIndex, embedder: Embedder, clips: Sequence[Clip]) -> dict[str, dict[str, float]]:
    """Class -> precision at ten by each of QUERIES, and chance."""
    counts = windows_of(index)
    names = sorted({clip.label for clip in clips})
    result = {}
    for name in names:
        relevant = {clip.path.name for clip in clips if clip.label == name}
        result[name] = {
            kind: precision(find(index, embedder, None, phrases_of(embedder, name, kind)), relevant) for kind in QUERIES
        } | {"chance": sum(counts.get(path, 0) for path in relevant) / len(index)}
    return result


def windows_of(index: SearchIndex) -> dict[str, int]:
    """How many windows of each recording are in the index."""
    paths, counts = np.unique(np.array(index.rows["path"].to_pylist()), return_counts=True)
    return dict(zip(paths.tolist(), counts.tolist(), strict=True))


def by_sound(index: SearchIndex, embedder: Embedder, clips: Sequence[Clip]) -> dict[str, dict[str, float]]:
    """Class -> precision at ten by its clips, and chance."""
    counts = windows_of(index)
    values: dict[str, list[float]] = {}
    chances: dict[str, list[float]] = {}
    for clip in clips:
        own = {other.path.name for other in clips if other.source == clip.source}
        relevant = {other.path.name for other in clips if other.label == clip.label} - own
        if clip.path.name not in counts or not relevant:
            continue
        n_own = sum(counts.get(path, 0) for path in own)
        found = find(index, embedder, embed_sound(embedder, clip.path, index.per), None, TOP + n_own)
        values.setdefault(clip.label, []).append(precision([row for row in found if row.path not in own], relevant))
        n_relevant = sum(counts.get(path, 0) for path in relevant)
        chances.setdefault(clip.label, []).append(n_relevant / (len(index) - n_own))
    return {
        name: {"sound": float(np.mean(values[name])), "chance": float(np.mean(chances[name]))}
        for name in sorted(values)
    }


def mix_pairs(clips: Sequence[Clip], n_pairs: int, folder: Path, seed: int) -> list[tuple[str, str, set[str]]]:
    """Write mixtures of clips of two classes, both at the same peak, and return the pairs with their files."""
    rng = np.random.default_rng(seed)
    of_class: dict[str, list[Clip]] = {}
    for clip in clips:
        of_class.setdefault(clip.label, []).append(clip)
    names = sorted(name for name, own in of_class.items() if len(own) >= MIXED_A_PAIR)
    if len(names) < 2:
        raise UsageError(
            f"--pairs: got {n_pairs}, but fewer than two classes have {MIXED_A_PAIR} clips; give --pairs 0"
        )
    pairs = []
    for number in range(n_pairs):
        first, second = (names[i] for i in rng.choice(len(names), 2, replace=False))
        files = set()
        for i in range(MIXED_A_PAIR):
            waves = [_loud(of_class[name][int(rng.integers(len(of_class[name])))].path) for name in (first, second)]
            length = min(map(len, waves))
            name = f"mixed-{number}-{i}.flac"
            soundfile.write(folder / name, 0.5 * (waves[0][:length] + waves[1][:length]), 44_100)
            files.add(name)
        pairs.append((first, second, files))
    return pairs


def _loud(path: Path) -> NDArray[np.float32]:
    wave = Recording.from_file(path, 44_100).wave
    return wave / max(1e-6, float(np.abs(wave).max()))


def by_conditions(
    index: SearchIndex, embedder: Embedder, clips: Sequence[Clip], pairs: Sequence[tuple[str, str, set[str]]]
) -> dict[str, float]:
    """Mean precision at ten of "A and B", "A not B", and of A alone for the same windows."""
    mixed_with: dict[str, set[str]] = {}
    for first, second, files in pairs:
        for name in (first, second):
            mixed_with.setdefault(name, set()).update(files)
    values: dict[str, list[float]] = {kind: [] for kind in ("A and B", "A for A and B", "A not B", "A for A not B")}
    for first, second, _ in pairs:
        both = mixed_with[first] & mixed_with[second]
        alone = ({clip.path.name for clip in clips if clip.label == first} | mixed_with[first]) - both
        one = find(index, embedder, None, Phrases(embedder.zeroshot, embedder.choose([first])))
        two = Phrases(embedder.zeroshot, embedder.choose([first, second]))
        values["A and B"].append(precision(find(index, embedder, None, two), both))
        values["A for A and B"].append(precision(one, both))
        values["A not B"].append(precision(find(index, embedder, None, two, n_unwanted=1), alone))
        values["A for A not B"].append(precision(one, alone))
    return {kind: round(float(np.mean(found)), 4) for kind, found in values.items()}


def measure(options: Options) -> dict[str, Any]:
    """Index the clips, search them, and return the result that is printed as JSON."""
    check_range("--pairs", options.pairs, 0, 10_000)
    check_range("--seed", options.seed, 0, 2**32 - 1)
    embedder = Embedder.load(options.bundle)
    seen = {
        name.replace("_", " "): bool(is_seen)
        for name, is_seen in zip(embedder.zeroshot.class_names, embedder.zeroshot.seen, strict=True)
    }
    clips = [clip for clip in read_clips(options.data_dir, options.fold) if clip.label in seen]
    if not clips:
        raise UsageError(f"{options.data_dir}: has no clip of fold {options.fold} of a class of this bundle")
    say(f"{len(clips)} clips of {len({clip.label for clip in clips})} classes")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sounds = folder / "sounds"
        sounds.mkdir()
        for clip in clips:
            (sounds / clip.path.name).symlink_to(clip.path.resolve())
        index = index_folder(embedder, sounds, folder, "clips")
        words, sound = by_words(index, embedder, clips), by_sound(index, embedder, clips)
        conditions = {}
        if options.pairs:
            pairs = mix_pairs(clips, options.pairs, sounds, options.seed)
            conditions = by_conditions(index_folder(embedder, sounds, folder, "mixed"), embedder, clips, pairs)
        result = {
            "bundle": str(options.bundle),
            "clips": len(clips),
            "windows": len(index),
            "by_words": summarise(words, seen),
            "by_sound": summarise(sound, seen),
            "conditions": conditions,
            "by_class": {name: words[name] | sound.get(name, {}) for name in words},
        }
    _show(result)
    return result


def summarise(by_class: Mapping[str, Mapping[str, float]], seen: Mapping[str, bool]) -> dict[str, dict[str, float]]:
    """Mean over the classes, of seen and unseen ones apart, with the standard error over the classes."""
    result = {}
    for kind, is_seen in (("seen", True), ("unseen", False)):
        names = [name for name in by_class if seen[name] == is_seen]
        if names:
            result[kind] = {"classes": len(names), **dict(_means([by_class[name] for name in names]))}
    return result


def _means(rows: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, float]]:
    for key in rows[0]:
        values = np.array([row[key] for row in rows])
        yield key, round(float(values.mean()), 4)
        if key != "chance" and len(values) > 1:
            yield f"{key}_error", round(float(values.std(ddof=1) / np.sqrt(len(values))), 4)


def _show(result: Mapping[str, Any]) -> None:
    table = Table("precision at ten", "classes", *QUERIES, "a sound", "chance")
    for kind, words in result["by_words"].items():
        sound = result["by_sound"].get(kind, {})
        cells = [words[name] for name in QUERIES] + [sound.get("sound", float("nan")), words["chance"]]
        table.add_row(kind, str(words["classes"]), *(f"{100 * cell:.1f} %" for cell in cells))
    show(table, result["bundle"])
    for name, value in result["conditions"].items():
        say(f"{name}: {100 * value:.1f} %")


main = partial(run_command, Options, measure, "python -m benchmarks.search_accuracy")

if __name__ == "__main__":
    raise SystemExit(main())
