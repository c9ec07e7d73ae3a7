"""Draw ranked labels as bars, in different colours for labels of different kinds."""

import html

from demo.drawing.html_elements import escape_name
from demo.embedded_recording import EmbeddedRecording
from demo.labels.label_kinds import LabelKind
from demo.labels.ranked_labels import RankedLabels
from demo.verdict import LIKE_IT, Verdict
from serving.audio import SILENT_DBFS
from serving.embedder import Embedder

MAX_BARS = 10


def draw_ranking(
    embedder: Embedder,
    ranked: RankedLabels,
    verdict: Verdict,
    notes: list[str],
    facts: str,
    headline: str = "",
    folded: bool = False,
) -> str:
    """Draw the most probable labels with their probabilities, a key, notes and facts, as HTML.

    notes, facts, headline   HTML. A headline stands above the bars, which then are smaller
    folded                   show the bars only after a click, because they mix several sounds
    """
    shown, rest = ranked.ranking[:MAX_BARS], ranked.ranking[MAX_BARS:]
    alone = len(ranked.ranking) == 1
    rows = "".join(_bar(embedder, ranked, label, share, alone) for label, share in shown)
    kinds = {ranked.kinds[label] for label, _ in shown}
    key = "".join(f'<span class="{kind.value}">{kind.meaning}</span>' for kind in LabelKind if kind in kinds)
    lines = list(notes)
    if rest:
        lines.append(f"{len(rest)} more labels: {sum(share for _, share in rest):.1%} together.")
    below = "".join(f"<p>{line}</p>" for line in lines)
    classes = " ".join(filter(None, ["bars", headline and "small", verdict.text and "dimmed"]))
    above = (
        f'<p class="verdict">{verdict.text}</p><p class="reason">{html.escape(verdict.reason)}</p>'
        if verdict.text
        else ""
    )
    spoken = html.escape(verdict.spoken)
    opened, closed = ("<details><summary>The recording as a whole</summary>", "</details>") if folded else ("", "")
    return (
        f'<div class="card" data-spoken="{spoken}">{above}{headline}{opened}<ol class="{classes}">{rows}</ol>'
        f'<p class="kinds">{key}</p>{below}{closed}{facts}</div>'
    )


def _bar(embedder: Embedder, ranked: RankedLabels, label: str, share: float, alone: bool) -> str:
    kind = ranked.kinds[label]
    description = embedder.labels.describe(label)
    described = f' title="{html.escape(description)}"' if description != label else ""
    mark = f' <b class="mark {kind.value}">{kind.mark}</b>' if kind.mark else ""
    if alone:
        written = "" if ranked.none_of_these or ranked.chosen.threshold is None else LIKE_IT
        width = max(ranked.similarity, 0.0)
    else:
        written, width = f"{share:.1%}", share
    return (
        f'<li class="{kind.value}"{described}><span class="label">{escape_name(label)}{mark}</span>'
        f'<span class="share">{written}</span>'
        f'<span class="track"><i style="width:{100 * width:.2f}%"></i></span></li>'
    )


def ranking_notes(embedded: EmbeddedRecording, ranked: RankedLabels, favour: float) -> list[str]:
    """Notes that help to read the ranking."""
    if embedded.is_silent:
        return [f"Its peak level is {embedded.level_dbfs:.0f} dBFS; below {SILENT_DBFS:.0f} nothing can be named."]
    notes = label_notes(ranked)
    if favour and len(ranked.ranking) > 1 and (not ranked.seen or ranked.chosen.seen.all()):
        known = "trained on" if ranked.seen else "new"
        notes.append(f"All these labels are {known}, so “favour new sounds” changes nothing.")
    return notes


def label_notes(ranked: RankedLabels) -> list[str]:
    """Notes about the labels: that one alone has no percentage, and the words that the text model does not know."""
    notes = []
    if len(ranked.ranking) == 1:
        notes.append(
            "One label alone has no percentage, because there is nothing to compare it with. Its similarity to the "
            f"sound is {ranked.similarity:.2f} of 1"
            + (f"; from {ranked.chosen.threshold:.2f} it counts as heard." if ranked.chosen.threshold else ".")
        )
    return notes + [
        f"Not known to the text model, which is English: {escape_name(' '.join(unknown))} (in “{escape_name(label)}”)."
        for label, unknown in ranked.unknown_words.items()
    ]


def as_json(ranked: RankedLabels) -> list[dict[str, object]]:
    """Convert the ranking to JSON."""
    return [{"label": label, "probability": share, "seen": label in ranked.seen} for label, share in ranked.ranking]
