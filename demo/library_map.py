"""Draw a library as a map: one dot for each recording, coloured by class. A click plays the recording.

Dots are buttons with names for screen readers. Tab moves to the map, arrow keys move between dots, Enter plays.
"""

import html
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from demo.library import Library
from demo.page_style import colour, escape_name

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
        f'keys move between recordings, Enter plays">{dots}{mine}</div>'
        f"<p>{escape_name(library.name)}: {shown} recordings, placed by the first two principal components of their "
        f"embeddings. Click a dot to play the recording.{ring}</p><ul>{key}{more}</ul></div>"
    )


def _title(library: Library, row: int) -> str:
    start = library.starts_s[row]
    place = f" at {start:.1f} s" if start else ""
    return f"{escape_name(library.classes[row]) or 'no class'}: {html.escape(library.paths[row])}{place}"


# Gradio defines `element` (the component) and `trigger` (sends an event to the Python code).
BEHAVIOUR = """
const dots = () => [...element.querySelectorAll(".dot")];
const middle = dot => {
  const box = dot.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
};
const play = dot => {
  for (const other of dots()) {
    other.tabIndex = other === dot ? 0 : -1;
    other.classList.toggle("played", other === dot);
  }
  trigger("click", {row: Number(dot.dataset.row)});
};
element.addEventListener("click", event => {
  const dot = event.target.closest(".dot");
  if (dot) return play(dot);
  const field = event.target.closest(".dots");
  if (!field) return;
  const distance = dot => Math.hypot(middle(dot)[0] - event.clientX, middle(dot)[1] - event.clientY);
  const nearest = dots().reduce((best, dot) => distance(dot) < distance(best) ? dot : best);
  if (distance(nearest) < 24) play(nearest);
});
element.addEventListener("keydown", event => {
  const way = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  const from = event.target.closest(".dot");
  if (!way || !from) return;
  event.preventDefault();
  const [x, y] = middle(from);
  let best = null, least = Infinity;
  for (const dot of dots()) {
    const dx = middle(dot)[0] - x, dy = middle(dot)[1] - y;
    const ahead = dx * way[0] + dy * way[1], aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
    if (dot !== from && ahead > 0 && ahead + 2 * aside < least) { best = dot; least = ahead + 2 * aside; }
  }
  if (best) { from.tabIndex = -1; best.tabIndex = 0; best.focus(); }
});
"""
STYLE = """
.map .dots { position: relative; width: 100%; aspect-ratio: 16 / 9; min-height: 300px; border-radius: 6px;
  background: var(--unheard-track); overflow: hidden; }
.map .dot { position: absolute; width: 11px; height: 11px; margin: -5.5px 0 0 -5.5px; padding: 0; border: 0;
  border-radius: 50%; background: var(--c); opacity: .85; cursor: pointer; }
.map .dot:hover, .map .dot:focus-visible, .map .played { transform: scale(1.7); opacity: 1; z-index: 3; }
.map .dot:focus-visible { outline: 2px solid var(--body-text-color); outline-offset: 1px; }
.map .near, .map .played { opacity: 1; z-index: 2; box-shadow: 0 0 0 2px var(--body-text-color); }
.map .query { position: absolute; width: 22px; height: 22px; margin: -11px 0 0 -11px; border-radius: 50%; z-index: 2;
  border: 4px solid var(--unheard-accent); box-shadow: 0 0 0 2px var(--block-background-fill); pointer-events: none; }
.map p { font-size: 13px; margin: 12px 0 8px; color: var(--body-text-color-subdued); }
.map ul { list-style: none; margin: 0; padding: 0; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px;
  color: var(--body-text-color); }
.map li { margin: 0; }
.map li::before { content: ""; display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 6px;
  background: var(--c); }
.map small { color: var(--body-text-color-subdued); }
"""
