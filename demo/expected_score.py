"""How often the first answer is right, in words, from the scores in a bundle's manifest."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from demo.label_kinds import LabelKind

# The first of these that exists says how well the bundle names sounds of its own classes. A bundle that was trained on
# all clips has only cross-validated accuracies.
SEEN_SCORES = ("seen_accuracy", "zeroshot_map_test_accuracy", "test_accuracy", "folds_accuracy")


def seen_accuracy(scores: Mapping[str, Any]) -> float | None:
    """The accuracy on sounds of the bundle's own classes, 0 to 1; None: it is not known."""
    return next((float(scores[name]) for name in SEEN_SCORES if isinstance(scores.get(name), (int, float))), None)


def unseen_accuracy(scores: Mapping[str, Any], n_labels: int) -> float | None:
    """How often the first of n_labels answers is right where the model was trained on none of them, 0 to 1.

    Between the measured numbers of labels it is interpolated over the logarithm of the number.
    returns  None: it is not known for so many labels
    """
    measured = scores.get("unseen_top1")
    if not isinstance(measured, Mapping) or not measured or n_labels < 2:
        return None
    points = sorted((int(count), float(share)) for count, share in measured.items())
    for (fewer, high), (more, low) in pairwise(points):
        if fewer <= n_labels <= more:
            way = math.log(n_labels / fewer) / math.log(more / fewer)
            return high + way * (low - high)
    return points[-1][1] if n_labels >= points[-1][0] else points[0][1]


def expectation(scores: Mapping[str, Any], kinds: Mapping[str, LabelKind]) -> str:
    """What to expect of a ranking of these labels, in one or two sentences; "" where nothing is known."""
    n_seen, n_taught = (sum(kind is each for kind in kinds.values()) for each in (LabelKind.SEEN, LabelKind.TAUGHT))
    n_new = len(kinds) - n_seen - n_taught
    if len(kinds) == 1:
        return "One label alone cannot be compared with others: add labels that could be meant instead."
    sentences = []
    seen, new = seen_accuracy(scores), unseen_accuracy(scores, n_new)
    if n_seen and seen is not None:
        whole = "all of its classes together" if not n_new and not n_taught else "its classes"
        sentences.append(f"Sounds of {whole}: about {out_of_ten(seen)} first answers are right.")
    taught = scores.get("taught_accuracy")
    if n_taught and isinstance(taught, float):
        sentences.append(f"Sounds of its taught classes: about {out_of_ten(taught)} held-out examples are named right.")
    if n_new and new is not None:
        sentences.append(
            f"With {n_new} labels it was never trained on, about {out_of_ten(new)} first answers are right"
            + (f" (by chance: {out_of_ten(1 / n_new)})." if n_new <= 5 else ".")
        )
    if n_new and n_seen and sentences:
        sentences.append("With both kinds together, sounds of the new ones are missed more often.")
    return " ".join(sentences)


def out_of_ten(share: float) -> str:
    """A share as whole parts of ten, or of a hundred where it is near an end: "7 of 10", "97 of 100"."""
    tenths = 10 * share
    return f"{round(tenths)} of 10" if 1 <= tenths <= 9.4 else f"{round(100 * share)} of 100"
