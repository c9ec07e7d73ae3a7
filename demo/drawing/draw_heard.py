"""Draw what is heard when: a list, and a strip on the time axis of the spectrogram. A click plays from there."""

from collections.abc import Sequence

from demo.drawing.html_elements import colour, escape_name
from demo.heard import Heard, clock, for_drawing

MAX_LISTED = 40  # stretches in the list
MAX_DRAWN = 1000  # stretches in the strip; more are narrower than a pixel
NOTHING_HEARD = "none of these labels"


def colours_of(labels: Sequence[str]) -> dict[str, str]:
    """Label -> its colour in the list and in the strip."""
    names = sorted(set(labels))
    return {name: colour(i, len(names)) for i, name in enumerate(names)}


def draw_heard(stretches: Sequence[Heard]) -> str:
    """Draw the list as HTML. Each item is a button that plays the recording from its start."""
    if not stretches:
        return f'<div class="heard"><h2>Heard: {NOTHING_HEARD}</h2></div>'
    colours = colours_of([stretch.label for stretch in stretches])
    items = "".join(_item(stretch, colours[stretch.label]) for stretch in stretches[:MAX_LISTED])
    rest = len(stretches) - MAX_LISTED
    more = f"<li>and {rest} more on the time line</li>" if rest > 0 else ""
    hint = "Click one, or the picture below, to play from there."
    return f'<div class="heard"><h2>Heard</h2><ol>{items}{more}</ol><p class="reason">{hint}</p></div>'


def _item(stretch: Heard, shade: str) -> str:
    return (
        f'<li><button type="button" data-seek="{stretch.start_s:.3f}" title="{stretch.probability:.0%}">'
        f'<i style="background:{shade}"></i><b>{escape_name(stretch.label)}</b> '
        f"<time>{clock(stretch.start_s)}-{clock(stretch.end_s)}</time></button></li>"
    )


def spoken_list(stretches: Sequence[Heard]) -> str:
    """The list for screen readers."""
    if not stretches:
        return f"Heard: {NOTHING_HEARD}"
    listed = [f"{stretch.label} {clock(stretch.start_s)} to {clock(stretch.end_s)}" for stretch in stretches[:8]]
    rest = len(stretches) - len(listed)
    return "Heard: " + ", ".join(listed) + (f", and {rest} more" if rest > 0 else "")


def draw_strip(stretches: Sequence[Heard], axis_s: float) -> str:
    """Draw the strip as HTML. A label is shown where it fits. axis_s: length of the time axis in seconds."""
    colours = colours_of([stretch.label for stretch in stretches])
    parts = "".join(
        f'<span style="left:{100 * stretch.start_s / axis_s:.3f}%;'
        f"width:{100 * (stretch.end_s - stretch.start_s) / axis_s:.3f}%;--c:{colours[stretch.label]};"
        f'--share:{10 + 18 * stretch.probability:.0f}%" title="{escape_name(stretch.label)}, '
        f'{clock(stretch.start_s)}-{clock(stretch.end_s)}, {stretch.probability:.0%}">'
        f"<em>{escape_name(stretch.label)}</em></span>"
        for stretch in for_drawing(stretches, axis_s, MAX_DRAWN)
    )
    return (
        f'<div class="timeline"><div class="strip" data-seconds="{axis_s:.3f}" role="img" aria-label="what is heard '
        f'when; the list above has the same content">{parts}</div></div>'
    )
