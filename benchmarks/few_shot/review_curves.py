"""Accuracy by the number of sounds that a person labelled, chosen by the review or at random."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.few_shot.curves import Values
from benchmarks.few_shot.methods import taught
from benchmarks.few_shot.problem import Problem
from serving.progress import track
from serving.teaching.review_choice import choose_rows, uncertainties
from serving.zeroshot import ZeroShot

POOL_SHARE = 0.75  # of the pool that is there in a draw
REVIEW, UNCERTAIN, RANDOM = "review", "most uncertain", "random"

# map, embeddings of the pool, number, embeddings of what is labelled, random numbers -> indices in the pool
Choice = Callable[
    [ZeroShot, NDArray[np.float32], int, NDArray[np.float32], np.random.Generator], Sequence[int] | NDArray[np.intp]
]
CHOICES: dict[str, Choice] = {
    REVIEW: lambda zeroshot, pool, count, labelled, rng: choose_rows(zeroshot, pool, count, labelled),
    UNCERTAIN: lambda zeroshot, pool, count, labelled, rng: np.argsort(-uncertainties(zeroshot, pool))[:count],
    RANDOM: lambda zeroshot, pool, count, labelled, rng: rng.choice(len(pool), count, replace=False),
}


def review_curves(problems: Sequence[Problem], rounds: int, draws: int, others: bool = False) -> dict[str, Values]:
    """Choice -> accuracies [draws, rounds + 1], each the mean over the bundles.

    others   the pool has the clips of all other classes too: they are none of the labels, and teach nothing

    The first map knows the descriptions alone. In each round as many clips of the pool are labelled as there are
    classes, and the map is taught anew. In each draw a random part of the pool is there to choose from.
    """
    return {
        name: np.array(
            [
                np.mean([_label_in_rounds(problem, choose, rounds, draw, others) for problem in problems], axis=0)
                for draw in track(range(draws), f"choice: {name}{', with other sounds' if others else ''}")
            ]
        )
        for name, choose in CHOICES.items()
    }


def _label_in_rounds(problem: Problem, choose: Choice, rounds: int, draw: int, others: bool) -> list[float]:
    rng = np.random.default_rng(draw)
    whole = np.flatnonzero(problem.clips.folds != problem.test_fold) if others else problem.pool
    pool = np.sort(rng.permutation(whole)[: round(POOL_SHARE * len(whole))])  # the same one for each choice
    embeddings, test = problem.clips.embeddings, problem.clips.embeddings[problem.test]
    labelled = np.empty(0, np.intp)
    zeroshot = problem.prior
    accuracies = [problem.accuracy(zeroshot.cosines(test).argmax(axis=1))]
    for _ in range(rounds):
        left = np.setdiff1d(pool, labelled)
        count = min(len(problem.prior.class_names), len(left))
        if count:
            chosen = choose(zeroshot, embeddings[left], count, embeddings[labelled], rng)
            labelled = np.concatenate([labelled, left[np.asarray(chosen)]])
            named = labelled[problem.labels[labelled] >= 0]
            if len(named):
                zeroshot = taught(problem.prior, problem.clips, named, problem.labels)
        accuracies.append(problem.accuracy(zeroshot.cosines(test).argmax(axis=1)))
    return accuracies
