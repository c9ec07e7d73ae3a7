"""Draw ranked labels: bars for a recording, in different colours for seen and unseen labels, and a timeline."""

import html
from dataclasses import dataclass
from itertools import groupby

from demo.embedded_recording import EmbeddedRecording, RankedLabels
from demo.html_elements import colour, escape_name
from serving.audio import SILENT_DBFS
from serving.embedder import Embedder

SILENT = ("(silent)", 1.0)  # stands for the most probable label of a silent window, and for its probability
MAX_LISTED = 60  # segments in the list
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


@dataclass(frozen=True)
class Segment:
    """Consecutive windows with the same most probable label, and the mean of its probabilities."""

    label: str
    start_s: float
    end_s: float
    share: float


def join_windows(by_window: list[tuple[str, float]], window_s: float, total_s: float) -> list[Segment]:
    """Join consecutive windows that have the same label.

    by_window   (label, probability) of each window
    window_s    hop from one window to the next, in seconds
    total_s     end of the recording in seconds; the last window can be longer
    """
    joined = []
    for label, group in groupby(enumerate(by_window), key=lambda item: item[1][0]):
        windows = list(group)
        start, end = windows[0][0] * window_s, (windows[-1][0] + 1) * window_s
        share = sum(window[1] for _, window in windows) / len(windows)
        joined.append(Segment(label, start, min(end, total_s), share))
    return joined


def draw_timeline(found: list[Segment], total_s: float, axis_s: float) -> str:
    """Draw a strip on the spectrogram's time axis, and a list that unfolds, as HTML.

    axis_s   length of the time axis in seconds
    """
    names = sorted({segment.label for segment in found})
    colours = {name: colour(i, len(names)) for i, name in enumerate(names)}
    parts = "".join(
        f'<span style="left:{100 * segment.start_s / axis_s:.3f}%;'
        f"width:{100 * (segment.end_s - segment.start_s) / axis_s:.3f}%;--c:{colours[segment.label]};"
        f'--share:{20 + 50 * segment.share:.0f}%" title="{escape_name(segment.label)}, {_clock(segment.start_s)} to '
        f'{_clock(segment.end_s)}{_share(segment, ", ")}"><em>{escape_name(segment.label)}</em></span>'
        for segment in found
    )
    rows = "".join(
        f'<li><i style="background:{colours[segment.label]}"></i>{_clock(segment.start_s)} to {_clock(segment.end_s)} '
        f"<b>{escape_name(segment.label)}</b>{_share(segment, ' ')}</li>"
        for segment in found[:MAX_LISTED]
    )
    more = f"<li>and {len(found) - MAX_LISTED} more</li>" if len(found) > MAX_LISTED else ""
    return (
        f'<div class="timeline"><div class="strip" role="img" aria-label="most probable label of each window; the list '
        f'below has the same content">{parts}</div><details{" open" if len(found) <= 8 else ""}><summary>By window: '
        f"{len(found)} segments in {_clock(total_s)}</summary><ol>{rows}{more}</ol></details></div>"
    )


def _share(segment: Segment, before: str) -> str:
    return "" if segment.label == SILENT[0] else f"{before}{segment.share:.0%}"


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"
