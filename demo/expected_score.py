"""How often the first answer is right, in words, from the scores in a bundle's manifest."""

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from demo.labels.label_kinds import LabelKind

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
    points = sorted((int(count), float(share)) for count, share in measured.items() if int(count) > 1)
    if not points:  # one label alone is always right
        return None
    for (fewer, high), (more, low) in pairwise(points):
        if fewer <= n_labels <= more:
            way = math.log(n_labels / fewer) / math.log(more / fewer)
            return high + way * (low - high)
    return points[-1][1] if n_labels >= points[-1][0] else points[0][1]


def mixed_accuracy(scores: Mapping[str, Any], n_seen: int, n_new: int) -> tuple[float, float] | None:
    """How often the first answer is right among n_seen trained and n_new other labels together, 0 to 1.

    Of the measured numbers of labels, the nearest ones count, by the logarithms of both numbers.
    returns  for sounds of the trained labels, and for sounds of the others; None: it is not known
    """
    of_seen, of_new = scores.get("mixed_seen"), scores.get("mixed_unseen")
    if not (isinstance(of_seen, Mapping) and isinstance(of_new, Mapping)):
        return None
    measured = [key for key in of_seen if key in of_new and re.fullmatch(r"[1-9]\d*\+[1-9]\d*", key)]
    if not measured:
        return None

    def distance(key: str) -> float:
        seen, new = map(int, key.split("+"))
        return math.hypot(math.log(seen / n_seen), math.log(new / n_new))

    nearest = min(measured, key=distance)
    return float(of_seen[nearest]), float(of_new[nearest])


def expectation(scores: Mapping[str, Any], kinds: Mapping[str, LabelKind]) -> str:
    """What to expect of a ranking of these labels, in one or two sentences; "" where nothing is known."""
    n_seen, n_taught = (sum(kind is each for kind in kinds.values()) for each in (LabelKind.SEEN, LabelKind.TAUGHT))
    n_new = len(kinds) - n_seen - n_taught
    if len(kinds) == 1:
        return "One label alone cannot be compared with others: add labels that could be meant instead."
    sentences = [_expectation_of_untaught(scores, n_seen, n_new, n_taught)]
    taught = scores.get("taught_accuracy_all" if n_seen else "taught_accuracy")
    if n_taught and isinstance(taught, (int, float)):
        percent = f"{100 * taught:.0f} %"  # no "9 of 10", which would look like the number of examples
        sentences.append(f"Sounds of its taught classes: {percent} of the held-out examples are named right.")
    return " ".join(filter(None, sentences))


def _expectation_of_untaught(scores: Mapping[str, Any], n_seen: int, n_new: int, n_taught: int) -> str:
    """As `expectation`, for trained and new labels. The scores were measured without the n_taught taught ones."""
    if n_seen and n_new:
        return _expectation_of_both(scores, n_seen, n_new)
    seen, new = seen_accuracy(scores), unseen_accuracy(scores, n_new)
    if n_seen and seen is not None:
        right = out_of_ten(seen)
        if n_taught:
            return f"Sounds of its trained classes: about {right} first answers are right among these classes alone."
        return f"Sounds of all of its classes together: about {right} first answers are right."
    if n_new and new is not None:
        by_chance = f" (by chance: {out_of_ten(1 / n_new)})" if n_new <= 5 else ""
        right = f"about {out_of_ten(new)} first answers are right"
        return f"With {n_new} labels it was never trained on, {right}{by_chance}."
    return ""


def _expectation_of_both(scores: Mapping[str, Any], n_seen: int, n_new: int) -> str:
    """As `expectation`, for trained and other labels together."""
    new_labels = f"{n_new} new labels" if n_new > 1 else "new label"
    trained_labels = f"{n_seen} labels" if n_seen > 1 else "label"
    together = mixed_accuracy(scores, n_seen, n_new)
    if together is not None:
        of_trained, of_new = map(out_of_ten, together)
        return (
            f"Sounds of the {trained_labels} that it was trained on: about {of_trained} first answers are right. "
            f"Sounds of the {new_labels}: about {of_new}."
        )
    seen = seen_accuracy(scores)
    if seen is None:
        return ""
    return (
        f"Sounds of its classes: about {out_of_ten(seen)} first answers are right. "
        f"Sounds of the {new_labels} are missed more often; how often was not measured for this bundle."
    )


def out_of_ten(share: float) -> str:
    """A share as whole parts of ten, or of a hundred where it is near an end: "7 of 10", "97 of 100"."""
    tenths = 10 * share
    return f"{round(tenths)} of 10" if 1 <= tenths <= 9.4 else f"{round(100 * share)} of 100"
