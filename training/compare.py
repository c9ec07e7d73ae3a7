"""Compare a run's recipe with a bundle on the same clips, all of classes that neither of them was fitted to.

    python -m training.compare runs/NAME --bundle demo/model-from-scratch --init yamnet.tflite

The recipe is fitted again without each recording fold and each group of classes (training.evaluation.cross_fits), and
judged on the clips of both, with the offset and the threshold that clips of the other groups choose. What
training.calibrate chose for the run is not used: it chose on these very clips. The bundle is used as it is, so its own
classes take no part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from serving.command_line import run_command, show
from serving.embedder import Embedder
from serving.errors import DataError, UsageError
from serving.progress import track
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import normalise_label
from serving.zeroshot.probabilities import softmax
from training.calibrate import CalibrateOptions, open_recipe
from training.evaluation.cross_fits import cross_fits
from training.evaluation.open_labels import COUNTS, draw_labels, gini, settled_by_others
from training.text_encoders import text_encoder
from training.zeroshot_maps import text_vectors

WORDS_WITHOUT_SOUND = ("income tax", "green ideas", "yesterday", "a sad feeling", "seventeen", "honesty")
CONFIDENT = 0.5


@dataclass(frozen=True, kw_only=True)
class CompareOptions(CalibrateOptions):
    """Compare a run's recipe with a bundle on clips of classes that neither of them was fitted to."""

    bundle: Path
    """the bundle to compare with"""


@dataclass
class _Answers:
    """What one system says of clips, in the order in which it heard them.

    scores     [n, n_labels], each row with the system's own offset;  seen [n, n_labels] bool
    own        [n] index of the clip's label;  group [n] indices of labels to draw others from
    refused    [n, n_words] whether that label alone is refused
    """

    scores: list[NDArray[np.float64]]
    seen: list[NDArray[np.bool_]]
    own: list[int]
    groups: list[NDArray[np.int64]]
    refused: list[NDArray[np.bool_]]

    def add(
        self, zeroshot: ZeroShot, nonsense: ZeroShot, rows: NDArray[np.float32], own: Sequence[int],
        group: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """Add clips. zeroshot: of all labels;  nonsense: of the labels in WORDS_WITHOUT_SOUND."""
        self.scores += list(zeroshot.scores(rows, offset=zeroshot.own_offset).astype(np.float64))
        self.seen += [zeroshot.seen] * len(rows)
        self.own += list(own)
        self.groups += [group] * len(rows)
        threshold = -np.inf if zeroshot.threshold is None else zeroshot.threshold
        self.refused += list(nonsense.similarities(rows) < threshold)


def compare(options: CompareOptions) -> dict[str, Any]:
    """Score both systems and return the numbers.

    errors   as `open_recipe` and `Embedder.load`; UsageError: the bundle knows all classes, or reads no typed labels
    """
    other = Embedder.load(options.bundle)  # whatever can be refused is refused before the fits, which take hours
    recipe = open_recipe(options)
    learner, names, config = recipe.learner, recipe.names, recipe.config
    heard = {normalise_label(name) for name in other.manifest.seen_classes}
    unheard = np.array([normalise_label(name) not in heard for name in learner.recordings.table.classes])
    if not unheard.any():
        raise UsageError(
            f"--bundle: {options.bundle} was fitted to all {len(unheard)} classes of {options.run}; wanted one that "
            "was not fitted to some of them: give another bundle, or another run"
        )
    bundle_maps = other.choose(names), other.choose(WORDS_WITHOUT_SOUND)
    bar = partial(track, title="fits")
    fits = settled_by_others(cross_fits(learner, config, bar))
    paths = [clip.path for clip in learner.recordings.table.clips]
    rows_of_other = other.embed_files(paths)
    place = {name: i for i, name in enumerate(names)}
    classes = learner.recordings.table.classes
    column = np.array([place[name] for name in classes])
    vectors = text_vectors([*names, *WORDS_WITHOUT_SOUND], text_encoder(config.text), config.class_texts)
    lookup = dict(zip([*names, *WORDS_WITHOUT_SOUND], vectors, strict=True))

    def encode_stored(labels: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([lookup[label] for label in labels])

    of_bundle, of_recipe = (_Answers([], [], [], [], []) for _ in range(2))
    for fit in fits.without_classes:
        judged = fit.unseen & unheard
        rows = np.flatnonzero((fits.folds == fit.fold) & judged[fits.labels])
        if not len(rows):
            continue
        maps = fit.zeroshot.choose(names, encode_stored), fit.zeroshot.choose(WORDS_WITHOUT_SOUND, encode_stored)
        own, group = column[fits.labels[rows]].tolist(), column[np.flatnonzero(judged)]
        of_recipe.add(*maps, fit.embeddings[rows], own, group)
        of_bundle.add(*bundle_maps, rows_of_other[rows], own, group)
    if not of_recipe.own:
        raise DataError(
            f"{config.data_dir}: no clip that was held out is of a class that the bundle was not fitted to; add clips "
            "of these classes to the other recording folds"
        )
    systems = {"bundle": of_bundle, "recipe": of_recipe}
    result = {name: _scores(answers) for name, answers in systems.items()}
    _show(options, result)
    clips, kinds = len(of_recipe.own), len(np.unique(of_recipe.own))
    return {"clips": clips, "classes": kinds, "labels": len(names), **result}


def _scores(answers: _Answers) -> dict[str, float]:
    scores, seen, own = np.stack(answers.scores), np.stack(answers.seen), np.array(answers.own)
    best = scores.argmax(axis=1)
    sure = softmax(scores).max(axis=1) >= CONFIDENT
    named = np.bincount(best, minlength=scores.shape[1])
    offsets = np.linspace(-50, 50, 201)
    shifted = [(scores - offset * seen) for offset in offsets]
    result = {
        "top1": float((best == own).mean()),
        "top5": _top5(scores, own),
        "top1_best_offset": max(float((each.argmax(axis=1) == own).mean()) for each in shifted),
        "top5_best_offset": max(_top5(each, own) for each in shifted),
    }
    rng = np.random.default_rng(0)
    for count in COUNTS:
        result[f"{count}_labels"] = _among(answers, scores, count, rng)
    result |= {"hub_share": float(named.max() / named.sum()), "hub_gini": gini(named)}
    result |= {"never_named": float((named[np.unique(own)] == 0).mean())}
    result |= {"sure": float(sure.mean()), "right_of_sure": float((best == own)[sure].mean()) if sure.any() else 0.0}
    result["words_without_sound_refused"] = float(np.stack(answers.refused).mean())
    return result


def _top5(scores: NDArray[np.float64], own: NDArray[np.int64]) -> float:
    return float((np.argsort(-scores, axis=1)[:, :5] == own[:, None]).any(axis=1).mean())


def _among(answers: _Answers, scores: NDArray[np.float64], count: int, rng: np.random.Generator) -> float:
    """Accuracy among the clip's label and count - 1 others of classes that neither system was fitted to.

    With fewer such classes than labels, all of them are used.
    """
    right = [
        row[own] >= row[draw_labels(group, own, count, rng)].max(axis=1)
        for row, own, group in zip(scores, answers.own, answers.groups, strict=True)
    ]
    return float(np.mean(right))


def _show(options: CompareOptions, result: dict[str, dict[str, float]]) -> None:
    table = Table()
    for name in ("score", str(options.bundle), str(options.run)):
        table.add_column(name, justify="left" if name == "score" else "right")
    for score in result["bundle"]:
        table.add_row(score.replace("_", " "), *(f"{result[name][score]:.1%}" for name in ("bundle", "recipe")))
    show(table, "the same clips, of classes that neither was fitted to")


main = partial(run_command, CompareOptions, compare, "python -m training.compare")

if __name__ == "__main__":
    raise SystemExit(main())
