"""Draw a library as a map: one dot for each recording, coloured by class. A click plays the recording.

Dots are buttons with names for screen readers. Tab moves to the map, arrow keys move between dots, Enter plays.
"""

import html
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.drawing.html_elements import colour, escape_name
from demo.library import Library

MAP_SCRIPT = Path(__file__).with_name("library_map.js")  # the map's behaviour in the browser
MAX_DOTS = 1_000  # more are slow to draw and overlap
MAX_KEY = 60  # classes in the key
MARGIN = 0.04  # of the map's width and height on each side


def draw_map(library: Library, query: NDArray[np.float32] | None = None, near: list[int] | None = None) -> str:
    """Draw the map as HTML.

    query   [size] float32: the user's embedding, drawn as a ring
    near    rows to highlight: the nearest neighbours of the query
    """
    near = near or []
    every = -(-len(library) // MAX_DOTS)
    rows = sorted({*range(0, len(library), every), *near})
    spots = library.place(library.embeddings[rows])  # [n, 2]
    asked = None if query is None else library.place(query[None])[0]
    reach = spots if asked is None else np.vstack([spots, asked])
    low, high = reach.min(axis=0), reach.max(axis=0)
    scale = (1 - 2 * MARGIN) / np.maximum(high - low, 1e-9)
    counts = Counter(library.classes)
    names = sorted(counts)
    colours = {name: colour(i, len(names)) for i, name in enumerate(names)}

    def spot(place: NDArray[np.float64]) -> str:
        x, y = MARGIN + (place - low) * scale
        return f"left:{100 * x:.2f}%;top:{100 * (1 - y):.2f}%"

    dots = "".join(
        f'<button type="button" class="dot{" near" if row in near else ""}" data-row="{row}" '
        f'tabindex="{-1 if i else 0}" style="{spot(spots[i])};--c:{colours[library.classes[row]]}" '
        f'title="{_title(library, row)}" aria-label="{_title(library, row)}"></button>'
        for i, row in enumerate(rows)
    )
    mine = "" if asked is None else f'<i class="query" style="{spot(asked)}" title="your sound"></i>'
    key = "".join(
        f'<li style="--c:{colours[name]}">{escape_name(name) or "no class"} <small>{counts[name]}</small></li>'
        for name in names[:MAX_KEY]
    )
    more = f"<li>and {len(names) - MAX_KEY} more classes</li>" if len(names) > MAX_KEY else ""
    shown = f"{len(rows)} of {len(library)}" if len(rows) < len(library) else f"{len(library)}"
    ring = " The ring is your sound; the outlined dots are its nearest neighbours." if asked is not None else ""
    return (
        f'<div class="card map"><div class="dots" role="group" aria-label="map of {html.escape(library.name)}: arrow '
        f'keys move between sounds, Enter plays">{dots}{mine}</div>'
        f"<p>{escape_name(library.name)}: {shown} sounds, placed by the first two principal components of their "
        f"embeddings. Click a dot to play the sound.{ring}</p><ul>{key}{more}</ul></div>"
    )


def _title(library: Library, row: int) -> str:
    start = library.starts_s[row]
    place = f" at {start:.1f} s" if start else ""
    return f"{escape_name(library.classes[row]) or 'no class'}: {html.escape(library.paths[row])}{place}"
