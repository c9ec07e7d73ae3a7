"""The likeliest label of each window along a long recording: a coloured strip, and the same in words."""

from dataclasses import dataclass
from itertools import groupby

from demo.page_style import colour, words

LISTED = 60  # stretches that are told in words


@dataclass(frozen=True)
class Stretch:
    """Neighbouring windows with one likeliest label: where it lies, in seconds, and its mean probability."""

    label: str
    start_s: float
    end_s: float
    share: float


def stretches(by_window: list[tuple[str, float]], window_s: float, total_s: float) -> list[Stretch]:
    """Join windows that have the same label and lie side by side.

    by_window   (label, probability) of each window;  window_s: from one window's start to the next
    total_s     where the recording ends: its last window can reach beyond
    """
    joined = []
    for label, group in groupby(enumerate(by_window), key=lambda item: item[1][0]):
        windows = list(group)
        start, end = windows[0][0] * window_s, (windows[-1][0] + 1) * window_s
        share = sum(window[1] for _, window in windows) / len(windows)
        joined.append(Stretch(label, start, min(end, total_s), share))
    return joined


def draw_timeline(found: list[Stretch], total_s: float, axis_s: float) -> str:
    """The strip over the picture's time axis, and a list to unfold. HTML; empty for a single window.

    axis_s   how long the picture's axis is, in seconds
    """
    names = sorted({stretch.label for stretch in found})
    colours = {name: colour(i, len(names)) for i, name in enumerate(names)}
    parts = "".join(
        f'<span style="left:{100 * stretch.start_s / axis_s:.3f}%;'
        f"width:{100 * (stretch.end_s - stretch.start_s) / axis_s:.3f}%;--c:{colours[stretch.label]};"
        f'--share:{20 + 50 * stretch.share:.0f}%" title="{words(stretch.label)}, {_clock(stretch.start_s)} to '
        f'{_clock(stretch.end_s)}, {stretch.share:.0%}"><em>{words(stretch.label)}</em></span>'
        for stretch in found
    )
    rows = "".join(
        f'<li><i style="background:{colours[stretch.label]}"></i>{_clock(stretch.start_s)} to {_clock(stretch.end_s)} '
        f"<b>{words(stretch.label)}</b> {stretch.share:.0%}</li>"
        for stretch in found[:LISTED]
    )
    more = f"<li>and {len(found) - LISTED} more</li>" if len(found) > LISTED else ""
    return (
        f'<div class="timeline"><div class="strip" role="img" aria-label="the likeliest label of each window; the list '
        f'below says the same">{parts}</div><details{" open" if len(found) <= 8 else ""}><summary>By window: '
        f"{len(found)} stretches in {_clock(total_s)}</summary><ol>{rows}{more}</ol></details></div>"
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{seconds % 60:04.1f}"
