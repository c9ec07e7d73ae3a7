"""Draw the most probable label of each window of a long recording: a coloured strip and a list."""

from dataclasses import dataclass
from itertools import groupby

from demo.page_style import colour, escape_name

SILENT = ("(silent)", 1.0)  # stands for the most probable label of a silent window, and for its probability
MAX_LISTED = 60  # segments in the list


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
