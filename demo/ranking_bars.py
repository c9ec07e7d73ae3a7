"""Ranked labels as bars, seen and unseen ones apart."""

import html

from demo.page_style import words
from demo.recording import Heard, Ranked
from serving.embedder import Embedder

SHOWN = 10
UNSEEN = '<b class="mark">unseen</b>'
SEEN_KEY = '<span class="seen">seen: in the training</span>'
UNSEEN_KEY = '<span class="unseen">unseen: no recording of it was in the training, the model has only its words</span>'


def draw_bars(embedder: Embedder, ranked: Ranked, notes: list[str], facts: str) -> str:
    """The likeliest labels with their probabilities, and below them how to read them. HTML.

    notes, facts   further lines and what they rest on, already safe inside HTML
    """
    shown, rest = ranked.ranking[:SHOWN], ranked.ranking[SHOWN:]
    rows = "".join(_bar(embedder, label, share, label in ranked.seen) for label, share in shown)
    kinds = {label in ranked.seen for label, _ in shown}
    key = "".join(text for kind, text in ((True, SEEN_KEY), (False, UNSEEN_KEY)) if kind in kinds)
    lines = list(notes)
    if rest:
        lines.append(f"{len(rest)} more labels share {sum(share for _, share in rest):.1%}.")
    below = "".join(f"<p>{line}</p>" for line in lines)
    return f'<div class="card"><ol class="bars">{rows}</ol><p class="kinds">{key}</p>{below}{facts}</div>'


def _bar(embedder: Embedder, label: str, share: float, seen: bool) -> str:
    told = embedder.describe(label)
    described = f' title="{html.escape(told)}"' if told != label else ""
    return (
        f'<li class="{"seen" if seen else "unseen"}"{described}><span class="label">{words(label)}'
        f'{"" if seen else " " + UNSEEN}</span><span class="share">{share:.1%}</span>'
        f'<span class="track"><i style="width:{100 * share:.2f}%"></i></span></li>'
    )


def bar_notes(heard: Heard, ranked: Ranked, offset: float) -> list[str]:
    """What a reader of the bars should know of them."""
    notes = []
    if heard.is_silent:
        notes.append("This recording is silent, so its ranking means nothing.")
    if offset and (not ranked.seen or ranked.chosen.seen.all()):
        kind = "seen" if ranked.seen else "unseen"
        notes.append(f"All these labels are {kind}, so the offset changes nothing.")
    return notes


def as_json(ranked: Ranked) -> list[dict[str, object]]:
    """The ranking for programs."""
    return [{"label": label, "probability": share, "seen": label in ranked.seen} for label, share in ranked.ranking]
