"""Tables of scores, for the terminal and for report.md in the run folder."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from training.evaluation.folds import FoldScore
from training.evaluation.holdouts import Holdout
from training.run_folder import ZERO_SHOT_BARS, RunConfig

HOLDOUT_NUMBERS = {
    "zsl": "ZSL top-1",
    "harmonic_mean": "GZSL H",
    "gzsl_seen": "seen",
    "gzsl_unseen": "unseen",
    "plain_harmonic_mean": "H, no offset",
}
LABELS = {
    "seen_accuracy": "seen classes, accuracy",
    "zsl": "among the unseen classes (ZSL)",
    "zsl_chance": "ZSL, chance",
    "zsl_texts_alone": "ZSL, classes placed by their texts alone",
    "zsl_names_alone": "ZSL, classes placed by their names alone",
    "zsl_no_network": "ZSL, control: no network (log-mel statistics)",
    "zsl_random_vectors": "ZSL, control: random class vectors",
    "published_zsl": "ZSL, published for this split",
    "gzsl_plain_seen": "all classes, no offset: seen",
    "gzsl_plain_unseen": "all classes, no offset: unseen",
    "gzsl_plain_harmonic_mean": "all classes, no offset: harmonic mean",
    "gzsl_offset": "offset (a cosine), chosen without the judged classes",
    "gzsl_seen": "all classes, with the offset: seen",
    "gzsl_unseen": "all classes, with the offset: unseen",
    "gzsl_harmonic_mean": "all classes, with the offset: harmonic mean",
    "gzsl_area": "area under the seen-unseen curve",
    "gzsl_area_no_network": "area under the curve, control: no network",
}
ONE_CLASS = "not measurable (one class)"
NOT_SHARES = {"gzsl_offset", "gzsl_area", "gzsl_area_no_network"}


def without_single_class(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of `Assessment`, with ONE_CLASS for `zsl`, and no control, where one class alone is unseen."""
    if scores.get("zsl_chance") != 1:
        return dict(scores)
    others = {name: value for name, value in scores.items() if name[:4] != "zsl_" and name != "published_zsl"}
    return others | {"zsl": ONE_CLASS}


def mean_and_error(lines: Sequence[Holdout], method: str, number: str) -> tuple[float, float]:
    """Mean of a score over hold-outs and seeds, and its standard error.

    Trainings on the same unseen classes are not independent. So seeds are averaged first, and the error is that of
    the mean over hold-outs; it is NaN with a single hold-out.
    """
    of_method = [line for line in lines if line.method == method]
    means = [
        np.mean([getattr(line, number) for line in of_method if line.number == hold_out])
        for hold_out in sorted({line.number for line in of_method})
    ]
    error = np.std(means, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else float("nan")
    return float(np.mean(means)), float(error)


def seed_means(lines: Sequence[Holdout], method: str, number: str) -> dict[int, float]:
    """Mean of a score over the hold-outs, by seed."""
    seeds = sorted({line.seed for line in lines})
    return {
        seed: float(np.mean([getattr(line, number) for line in lines if (line.method, line.seed) == (method, seed)]))
        for seed in seeds
    }


def gain(lines: Sequence[Holdout], control: str, number: str) -> tuple[float, float]:
    """Mean and standard error of the network's score less a control's on the same hold-outs."""
    of_control = {(line.number, line.seed): getattr(line, number) for line in lines if line.method == control}
    hold_outs = sorted({line.number for line in lines})
    means = [
        np.mean([
            getattr(line, number) - of_control[line.number, line.seed]
            for line in lines
            if line.method == "network" and line.number == hold_out
        ])
        for hold_out in hold_outs
    ]  # fmt: skip
    error = np.std(means, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else float("nan")
    return float(np.mean(means)), float(error)


def holdout_table(lines: Sequence[Holdout]) -> Table:
    """Mean and standard error of each method, in percent: only the first two scores, to fit a narrow terminal."""
    table = Table(title=holdout_title(lines), title_justify="left", min_width=len(holdout_title(lines)) + 2)
    table.add_column("method", no_wrap=True)
    for name in [*HOLDOUT_NUMBERS.values()][:2]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in holdout_rows(lines):
        table.add_row(*row[:3])
    return table


def holdout_title(lines: Sequence[Holdout]) -> str:
    """The number of hold-outs, unseen classes and seeds, and chance."""
    hold_outs, seeds = len({line.number for line in lines}), len({line.seed for line in lines})
    unseen = len(lines[0].unseen_classes)
    return f"{hold_outs} hold-outs of {unseen} unseen classes, {seeds} seed(s); percent, chance {100 / unseen:.1f}"


def holdout_rows(lines: Sequence[Holdout]) -> list[list[str]]:
    """One row for each method, then one for the network's advantage over each control."""
    methods = list(dict.fromkeys(line.method for line in lines))
    rows = [
        [method, *(_percent(*mean_and_error(lines, method, number)) for number in HOLDOUT_NUMBERS)]
        for method in methods
    ]
    for control in methods[1:]:
        rows.append([f"network less {control}", *(_points(*gain(lines, control, n)) for n in HOLDOUT_NUMBERS)])
    return rows


def fold_table(scores: Sequence[FoldScore]) -> Table:
    """Accuracy by fold, mean over seeds, of the head, the map and the control."""
    table = Table(title=f"recording folds, {len({score.seed for score in scores})} seed(s)", title_justify="left")
    for column in FOLD_COLUMNS:
        table.add_column(column, justify="right")
    for row in fold_rows(scores):
        table.add_row(*row)
    return table


FOLD_COLUMNS = ("fold", "head", "zero-shot map", "no network: log-mel statistics, ridge")


def fold_rows(scores: Sequence[FoldScore]) -> list[list[str]]:
    """One row for each fold; with several seeds, one for the cross-validation of each seed; and the mean of all."""
    seeds = sorted({score.seed for score in scores})

    def means(selected: Sequence[FoldScore]) -> list[str]:
        names = ("accuracy", "map_accuracy", "statistics")
        return [_share(np.mean([getattr(score, name) for score in selected])) for name in names]

    rows = [
        [str(fold), *means([score for score in scores if score.fold == fold])]
        for fold in sorted({score.fold for score in scores})
    ]
    if len(seeds) > 1:
        rows += [[f"all, seed {seed}", *means([score for score in scores if score.seed == seed])] for seed in seeds]
    return [*rows, ["all", *means(scores)]]


def markdown(report: dict[str, Any], config: RunConfig, figures: Sequence[str]) -> str:
    """The page report.md. report: the content of report.json;  figures: file names of the run's figures beside it."""
    recipe = config.recipe
    parts = [
        f"# {config.network.name} on {config.dataset}\n\nObjective {config.objective}, split {config.split.name}, "
        f"{config.vocabulary} sounds of the acoustic vocabulary, {recipe.epochs} epochs ({recipe.finishing} of them "
        f"finishing) with batches of {recipe.batch_size}, text encoder {config.text}."
    ]
    if lacking := config.split.warning():
        parts.append(f"{lacking}.")
    if "run" in report:
        run = without_single_class(report["run"])
        rows = [
            [label, f"{run[name]:.3f}" if name in NOT_SHARES else _share(run[name])]
            for name, label in LABELS.items()
            if run.get(name) is not None
        ]
        parts.append("## This network")
        if "n_seen_clips" in run:  # older reports lack it
            parts.append(_what_was_scored(run))
        parts.append(_markdown_table(["what", "value"], rows))
        for group, numbers in report["run"]["quality"].items():
            measured = [[name.replace("_", " "), f"{value:.3f}"] for name, value in numbers.items() if name[0] != "n"]
            if measured:
                table = _markdown_table(["what", "value"], measured)
                parts.append(f"Embeddings of {group} (clips that were not trained on):\n\n{table}")
        parts += [f"![{name.removesuffix('.png')}]({name})" for name in figures]
    if "folds" in report:
        rows = fold_rows([FoldScore(**score) for score in report["folds"]])
        parts.append(f"## Its recipe over recording folds\n\n{_markdown_table(FOLD_COLUMNS, rows)}")
    if "holdouts" in report:
        lines = [Holdout(**line) for line in report["holdouts"]]
        table = _markdown_table(["method", *HOLDOUT_NUMBERS.values()], holdout_rows(lines))
        seeds = ", ".join(f"{seed}: {mean:.1%}" for seed, mean in seed_means(lines, "network", "zsl").items())
        parts.append(
            f"## Its recipe over class hold-outs\n\n{holdout_title(lines)}. Mean ± standard error over hold-outs; "
            f"ZSL by seed {seeds}.\n\n{table}\n\n![zero-shot]({ZERO_SHOT_BARS})"
        )
    return "\n\n".join(parts) + "\n"


def _what_was_scored(run: Mapping[str, Any]) -> str:
    """A sentence on the classes and clips of `Assessment`."""
    seen = f"{run['n_seen_clips']} {run['seen_clips']} clips of {run['n_seen_classes']} seen classes"
    unseen = f"{run['n_unseen_clips']} clips of {run['n_unseen_classes']} unseen classes"
    return f"Scored on {seen}, and on {unseen}."


def recipe_scores(report: dict[str, Any]) -> dict[str, float]:
    """Mean scores of the repeated recipe over the folds and over the hold-outs, where a report has them.

    errors   KeyError, TypeError: not the content of report.json
    """
    scores = {}
    if "folds" in report:
        for name in ("accuracy", "map_accuracy"):
            scores[f"folds_{name}"] = float(np.mean([score[name] for score in report["folds"]]))
    if "holdouts" in report:
        for name in ("zsl", "harmonic_mean"):
            of_network = [row[name] for row in report["holdouts"] if row["method"] == "network"]
            scores[f"holdouts_{name}"] = float(np.mean(of_network))
    return scores


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(mean: float, error: float) -> str:
    return f"{100 * mean:.1f} ± {100 * error:.1f}"


def _points(mean: float, error: float) -> str:
    return f"{100 * mean:+.1f} ± {100 * error:.1f}"


def _share(share: Any) -> str:
    if isinstance(share, str):  # ONE_CLASS
        return share
    return f"{100 * float(share):.1f} %"
