"""Draw ranked labels as bars, in different colours for seen and unseen labels."""

import html

from demo.page_style import escape_name
from demo.recording import EmbeddedRecording, RankedLabels
from serving.audio import SILENT_DBFS
from serving.embedder import Embedder

MAX_BARS = 10
UNSEEN = '<b class="mark">unseen</b>'
SEEN_KEY = '<span class="seen">seen: in the training data</span>'
UNSEEN_KEY = '<span class="unseen">unseen: not in the training data, the model has only its words</span>'


def draw_ranking(embedder: Embedder, ranked: RankedLabels, notes: list[str], facts: str) -> str:
    """Draw the most probable labels with their probabilities, a key, notes and facts, as HTML.

    notes, facts   HTML
    """
    shown, rest = ranked.ranking[:MAX_BARS], ranked.ranking[MAX_BARS:]
    rows = "".join(_bar(embedder, label, share, label in ranked.seen) for label, share in shown)
    kinds = {label in ranked.seen for label, _ in shown}
    key = "".join(text for kind, text in ((True, SEEN_KEY), (False, UNSEEN_KEY)) if kind in kinds)
    lines = list(notes)
    if rest:
        lines.append(f"{len(rest)} more labels: {sum(share for _, share in rest):.1%} together.")
    below = "".join(f"<p>{line}</p>" for line in lines)
    return f'<div class="card"><ol class="bars">{rows}</ol><p class="kinds">{key}</p>{below}{facts}</div>'


def _bar(embedder: Embedder, label: str, share: float, seen: bool) -> str:
    description = embedder.describe(label)
    described = f' title="{html.escape(description)}"' if description != label else ""
    return (
        f'<li class="{"seen" if seen else "unseen"}"{described}><span class="label">{escape_name(label)}'
        f'{"" if seen else " " + UNSEEN}</span><span class="share">{share:.1%}</span>'
        f'<span class="track"><i style="width:{100 * share:.2f}%"></i></span></li>'
    )


def ranking_notes(embedded: EmbeddedRecording, ranked: RankedLabels, offset: float) -> list[str]:
    """Notes that help to read the ranking."""
    notes = []
    if embedded.is_silent:
        notes.append(
            f"This recording is silent ({embedded.level_dbfs:.0f} dBFS, below {SILENT_DBFS:.0f}), so its ranking means "
            "nothing."
        )
    notes += unknown_notes(ranked)
    if offset and (not ranked.seen or ranked.chosen.seen.all()):
        kind = "seen" if ranked.seen else "unseen"
        notes.append(f"All these labels are {kind}, so the offset changes nothing.")
    return notes


def unknown_notes(ranked: RankedLabels) -> list[str]:
    """One note for each label that the text model knows only in part: the words that it does not know."""
    return [
        f"Not known to the text model, which is English: {escape_name(' '.join(unknown))} (in “{escape_name(label)}”)."
        for label, unknown in ranked.unknown_words.items()
    ]


def as_json(ranked: RankedLabels) -> list[dict[str, object]]:
    """Convert the ranking to JSON."""
    return [{"label": label, "probability": share, "seen": label in ranked.seen} for label, share in ranked.ranking]
