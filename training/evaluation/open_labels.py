"""Scores of the answers that a user gets: by the number of labels, with their calibration and "none of these".

Every number is of clips that the fit did not hear, and of a temperature or a threshold that other clips chose.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from serving.zeroshot import TextEncoder, ZeroShot
from serving.zeroshot.probabilities import expected_calibration_error, softmax
from training.evaluation.cross_fits import CrossFits
from training.evaluation.mixed_labels import Group, MixedLabels, group_of, held_out_rows
from training.evaluation.scoring import class_mean_accuracy, harmonic_mean
from training.zeroshot_maps import TEMPERATURES, temperature_losses

COUNTS = (2, 3, 5, 10)  # labels
NONE_LABELS = 3  # labels in the question "is it one of these?"
DRAWS = 20  # of labels for each clip
Scores = dict[str, float | dict[str, float]]


@dataclass(frozen=True)
class Calibration:
    """What the held-out clips say: the settings for the fit of all clips, and its scores.

    temperature, offset   see `ZeroShot`; the offset is that of a balanced map
    threshold             of similarities
    """

    temperature: float
    offset: float
    threshold: float
    scores: Scores


@dataclass(frozen=True)
class _Known:
    """Largest similarities to NONE_LABELS labels. with_own: the clip's class is one of them; without: it is not."""

    with_own: NDArray[np.float64]
    without: NDArray[np.float64]


def calibrate(fits: CrossFits, names: Sequence[str], encode: TextEncoder) -> Calibration:
    """Choose the temperature, the offset and the threshold, and measure the scores.

    names   the labels of the question with all labels; it contains the classes of the data set
    encode  label texts -> vectors, as the class vectors were made
    """
    scores: Scores = {}
    temperature = _seen_scores(fits, scores)
    _by_count(fits, temperature, scores)
    mixed = MixedLabels(fits, temperature)
    scores |= mixed.scores()
    fits = _with_offsets(fits, mixed)
    _among_all(fits, names, encode, scores)
    threshold = _none_scores(fits, scores)
    return Calibration(temperature, temperature * mixed.best_offset(mixed.groups), threshold, scores)


def settled_by_others(fits: CrossFits) -> CrossFits:
    """The fits without groups of classes, each with the offset and the threshold that the other groups' clips choose.

    The temperature is that of the fits of all classes, as in `calibrate`; it changes no order of labels of one kind.
    """
    fits = _with_offsets(fits, MixedLabels(fits, _seen_scores(fits, {})))
    groups, together = _known_by_group(fits)
    thresholds = {
        judged: _best_threshold(together, [i for i, group in enumerate(groups) if group != judged]) for judged in groups
    }
    settled = [replace(fit.zeroshot, threshold=thresholds[group_of(fit)]) for fit in fits.without_classes]
    pairs = zip(fits.without_classes, settled, strict=True)
    return replace(fits, without_classes=[replace(fit, zeroshot=zeroshot) for fit, zeroshot in pairs])


def _with_offsets(fits: CrossFits, mixed: MixedLabels) -> CrossFits:
    """The fits without groups of classes, each with the temperature and with the offset that other groups choose."""
    temperature = mixed.temperature
    offsets = {
        judged: temperature * mixed.best_offset([group for group in mixed.groups if group != judged])
        for judged in mixed.groups
    }
    without_classes = [
        replace(fit, zeroshot=_balanced(fit.zeroshot, temperature, offsets[group_of(fit)]))
        for fit in fits.without_classes
    ]
    return replace(fits, without_classes=without_classes)


def _balanced(zeroshot: ZeroShot, temperature: float, offset: float) -> ZeroShot:
    return replace(zeroshot, temperature=temperature, offset=offset, balanced=True)


def _seen_scores(fits: CrossFits, scores: Scores) -> float:
    """Accuracy and calibration over the folds, all classes seen. Returns the temperature that all folds choose."""
    rows = {fit.fold: held_out_rows(fits, fit)[0] for fit in fits.without_folds}
    cosines = {fit.fold: fit.zeroshot.cosines(fit.embeddings[rows[fit.fold]]) for fit in fits.without_folds}
    targets = {fold: fits.labels[rows[fold]] for fold in cosines}
    right = {fold: cosines[fold].argmax(axis=1) == targets[fold] for fold in cosines}
    best = []
    for fold in cosines:
        others = [other for other in cosines if other != fold]
        temperature = _best_temperature([cosines[other] for other in others], [targets[other] for other in others])
        best.append(softmax(temperature * cosines[fold]).max(axis=1))
    all_right = np.concatenate(list(right.values()))
    scores["seen_accuracy"] = float(all_right.mean())
    scores["calibration_error_seen"] = expected_calibration_error(np.concatenate(best), all_right)
    return _best_temperature(list(cosines.values()), list(targets.values()))


def _best_temperature(cosines: Sequence[NDArray[np.float32]], targets: Sequence[NDArray[np.int64]]) -> float:
    """The temperature of the smallest cross-entropy."""
    losses = temperature_losses(np.concatenate(cosines), np.concatenate(targets))
    return float(TEMPERATURES[int(losses.argmin())])


def _by_count(fits: CrossFits, temperature: float, scores: Scores) -> None:
    """Accuracy on unseen classes among a few unseen labels, and its calibration error."""
    rng = np.random.default_rng(0)
    right: dict[int, list[NDArray[np.bool_]]] = {}
    best: dict[int, list[NDArray[np.float64]]] = {}
    for fit in fits.without_classes:
        rows, classes = held_out_rows(fits, fit)[1], np.flatnonzero(fit.unseen)
        logits = temperature * fit.zeroshot.cosines(fit.embeddings[rows])
        for count in (count for count in COUNTS if count <= len(classes)):
            for row, own in zip(logits, fits.labels[rows], strict=True):
                drawn = row[draw_labels(classes, own, count, rng)]  # [DRAWS, count]; the clip's own label comes first
                right.setdefault(count, []).append(drawn[:, 0] >= drawn.max(axis=1))
                best.setdefault(count, []).append(softmax(drawn).max(axis=1))
    scores["unseen_top1"] = {str(count): float(np.mean(right[count])) for count in right}
    scores["calibration_error_unseen"] = {
        str(count): expected_calibration_error(np.concatenate(best[count]), np.concatenate(right[count]))
        for count in right
    }


def draw_labels(classes: NDArray[np.int64], own: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A class and up to count - 1 others, drawn at random: [DRAWS, count]."""
    others = np.tile(classes[classes != own], (DRAWS, 1))
    return np.column_stack([np.full(DRAWS, own), rng.permuted(others, axis=1)[:, : count - 1]])


def _among_all(fits: CrossFits, names: Sequence[str], encode: TextEncoder, scores: Scores) -> None:
    """Accuracy on unseen and seen classes among all names, with the map's own offset; the hubs of unseen clips."""
    guesses: dict[bool, list[NDArray[np.int64]]] = {False: [], True: []}  # by whether the class is seen
    targets: dict[bool, list[NDArray[np.int64]]] = {False: [], True: []}
    top5: list[NDArray[np.bool_]] = []
    for fit in fits.without_classes:
        column = {name: i for i, name in enumerate(names)}
        own = np.array([column[name] for name in fit.zeroshot.class_names])[fits.labels]  # [n_clips]
        among_all = fit.zeroshot.choose(names, encode)
        answers = among_all.scores(fit.embeddings, offset=among_all.own_offset)
        for seen, rows in zip((True, False), held_out_rows(fits, fit), strict=True):
            guesses[seen].append(answers[rows].argmax(axis=1))
            targets[seen].append(own[rows])
            if not seen:
                order = np.argsort(-answers[rows], axis=1)[:, :5]
                top5.append((order == own[rows][:, None]).any(axis=1))
    of_unseen, all_targets = np.concatenate(guesses[False]), np.concatenate(targets[False])
    count = str(len(names))
    by_count = scores["unseen_top1"]
    assert isinstance(by_count, dict)
    by_count[count] = float((of_unseen == all_targets).mean())
    scores["unseen_top5"] = {count: float(np.concatenate(top5).mean())}
    unseen, seen = (class_mean_accuracy(np.concatenate(guesses[k]), np.concatenate(targets[k])) for k in (False, True))
    scores |= {"gzsl_seen": seen, "gzsl_unseen": unseen, "gzsl_harmonic_mean": float(harmonic_mean(seen, unseen))}
    named = np.bincount(of_unseen, minlength=len(names))
    scores["hub_share"] = float(named.max() / named.sum())
    scores["hub_gini"] = gini(named)


def gini(counts: NDArray[np.int64]) -> float:
    """Gini coefficient of how often each label is named: 0, all as often; near 1, one label takes all."""
    ordered = np.sort(counts).astype(np.float64)
    ranks = np.arange(1, len(ordered) + 1)
    return float(((2 * ranks - len(ordered) - 1) * ordered).sum() / (len(ordered) * ordered.sum()))


def _known_by_group(fits: CrossFits) -> tuple[list[Group], dict[bool, list[_Known]]]:
    """The groups of classes, and what their fits know of their held-out clips: by whether the clips' class is seen."""
    rng = np.random.default_rng(0)
    groups = sorted({group_of(fit) for fit in fits.without_classes})
    pools: dict[bool, list[list[_Known]]] = {True: [[] for _ in groups], False: [[] for _ in groups]}
    for fit in fits.without_classes:
        group = groups.index(group_of(fit))
        similarities = fit.zeroshot.similarities(fit.embeddings)
        for seen, rows in zip((True, False), held_out_rows(fits, fit), strict=True):
            classes = np.flatnonzero(~fit.unseen if seen else fit.unseen)
            pools[seen][group].append(_known(similarities[rows], fits.labels[rows], classes, rng))
    return groups, {seen: [_joined(of_group) for of_group in pools[seen]] for seen in (True, False)}


def _none_scores(fits: CrossFits, scores: Scores) -> float:
    """How well the largest similarity tells whether a clip's class is among the labels. Returns the threshold."""
    groups, together = _known_by_group(fits)
    for name, kinds in (("none_auroc", (True, False)), ("none_auroc_seen", (True,)), ("none_auroc_unseen", (False,))):
        every = _joined([known for seen in kinds for known in together[seen]])
        right = np.r_[np.ones(len(every.with_own)), np.zeros(len(every.without))]
        scores[name] = float(roc_auc_score(right, np.r_[every.with_own, every.without]))
    # The threshold that judges a group of classes comes from the other groups.
    accepted: dict[str, list[NDArray[np.bool_]]] = {"none_kept_seen": [], "none_kept_unseen": []}
    refused: dict[str, list[NDArray[np.bool_]]] = {"none_found_seen": [], "none_found_unseen": []}
    for judged in range(len(groups)):
        threshold = _best_threshold(together, [group for group in range(len(groups)) if group != judged])
        for seen, kind in ((True, "seen"), (False, "unseen")):
            accepted[f"none_kept_{kind}"].append(together[seen][judged].with_own >= threshold)
            refused[f"none_found_{kind}"].append(together[seen][judged].without < threshold)
    scores |= {name: float(np.concatenate(rows).mean()) for name, rows in (accepted | refused).items()}
    return _best_threshold(together, range(len(groups)))


def _known(
    similarities: NDArray[np.float32], labels: NDArray[np.int64], classes: NDArray[np.int64], rng: np.random.Generator
) -> _Known:
    count = min(NONE_LABELS, len(classes) - 1)
    with_own, without = [], []
    for row, own in zip(similarities, labels, strict=True):
        with_own.append(row[draw_labels(classes, own, count, rng)].max(axis=1))
        without.append(row[draw_labels(classes, own, count + 1, rng)[:, 1:]].max(axis=1))
    return _Known(np.concatenate(with_own).astype(np.float64), np.concatenate(without).astype(np.float64))


def _joined(parts: Sequence[_Known]) -> _Known:
    return _Known(np.concatenate([part.with_own for part in parts]), np.concatenate([part.without for part in parts]))


def _best_threshold(together: dict[bool, list[_Known]], groups: Sequence[int]) -> float:
    """The threshold with the best balanced accuracy, where seen and unseen labels count alike."""
    chosen = {seen: _joined([together[seen][group] for group in groups]) for seen in (True, False)}
    grid = np.linspace(-1, 1, 401)
    balance = [
        np.mean([[(part.with_own >= each).mean(), (part.without < each).mean()] for part in chosen.values()])
        for each in grid
    ]
    return float(grid[int(np.argmax(balance))])


def apply_calibration(zeroshot: ZeroShot, chosen: Calibration) -> ZeroShot:
    """The map with the temperature, the offset and the threshold."""
    return replace(_balanced(zeroshot, chosen.temperature, chosen.offset), threshold=chosen.threshold)
