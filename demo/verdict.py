"""The first line of an answer: a label, "none of these", or "nothing to hear"."""

import math
from dataclasses import dataclass

from demo.labels.ranked_labels import RankedLabels
from serving.audio.level import SHORTEST_S
from serving.zeroshot.label_text import words_of_label

NONE_OF_THESE = "none of these"
NOTHING_TO_HEAR = "nothing to hear"
LIKE_IT = "sounds like it"


@dataclass(frozen=True)
class Verdict:
    """What the page says of a sound as a whole.

    text    NONE_OF_THESE or NOTHING_TO_HEAR; "": the most probable label is the answer
    reason  one sentence about the text; "" without one
    spoken  for screen readers
    """

    text: str
    reason: str
    spoken: str


def judge(ranked: RankedLabels, silent: bool, seconds: float = math.inf) -> Verdict:
    """The verdict on a ranking. silent: whether the sound is too soft to be named;  seconds: its duration."""
    if seconds < SHORTEST_S:
        reason = f"The recording lasts only {1000 * seconds:.1f} ms, so the ranking below means nothing."
        return Verdict(NOTHING_TO_HEAR, reason, NOTHING_TO_HEAR)
    if silent:
        reason = "The recording is silent, so the ranking below means nothing."
        return Verdict(NOTHING_TO_HEAR, reason, NOTHING_TO_HEAR)
    label, share = ranked.ranking[0]
    if ranked.noise:
        reason = "The sound is even noise, like that of a fan or an untuned radio."
        return Verdict(NONE_OF_THESE, reason, NONE_OF_THESE)
    if ranked.none_of_these:
        reason = f"The sound is like none of the labels. The nearest is “{words_of_label(label)}”."
        return Verdict(NONE_OF_THESE, reason, NONE_OF_THESE)
    alone = len(ranked.ranking) == 1
    sure = LIKE_IT if alone else f"{share:.0%}"
    return Verdict("", "", f"{words_of_label(label)}, {sure}")
