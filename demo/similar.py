"""The tab "Find similar": a sound in; the recordings of a library that are most like it, to see and to hear."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from demo.action import add_action, react
from demo.hearing import Heard, hear
from demo.library import Library, embed_examples
from demo.looks import facts, hint, read_in_part, refusal, words
from demo.map import BEHAVIOUR, draw_map
from demo.models import Models
from demo.sound import add_sound
from serving.embedder import Embedder, pool
from serving.errors import AudioError, UnheardError, UsageError

SHOWN = 6
MOST = 50  # neighbours that a program can ask for
NOTHING_YET = hint("Drop a sound, record one or take an example:<br>its nearest recordings appear here.")
NO_LIBRARY = "library: there is none; start the demo with --library X.parquet or with --examples"


def add_similar(
    models: Models, bundle: gr.Dropdown, examples: Sequence[tuple[Path, str]], library: Library | None
) -> None:
    """Add the view.

    library    of recordings to search; None: the examples are it
    examples   (file, name to show) pairs
    """

    @lru_cache(4)
    def of_examples(bundle: str) -> Library:
        return embed_examples(models.open(bundle), examples)

    def searched(bundle: str) -> Library:
        """The library, if the bundle's embeddings compare with it."""
        if library is None and not examples:
            raise UsageError(NO_LIBRARY)
        found = library or of_examples(bundle)
        check_space(found, models.open(bundle), bundle)
        return found

    def show(path: str | None, bundle: str) -> tuple[str, str]:
        found = searched(bundle)
        if path is None:
            return NOTHING_YET, draw_map(found)
        embedding, heard = _embed(models.open(bundle), path)
        near = found.nearest(embedding, SHOWN)
        shown = read_in_part(heard.warnings) + _list(found, near, heard.milliseconds)
        return shown, draw_map(found, embedding, [row for row, _ in near])

    def play_dot(event: gr.EventData, bundle: str) -> str:
        return _player(searched(bundle), int(event.row), autoplay=True)

    def similar(recording: str | None, count: int, bundle: str) -> dict[str, Any]:
        """The recordings of the library most like one: row, class, cosine, and where in the recording, in seconds."""
        if not 1 <= count <= MOST:
            raise UsageError(f"count: got {count}; wanted 1 to {MOST}")
        found = searched(bundle)
        embedding, heard = _embed(models.open(bundle), recording)
        near = found.nearest(embedding, int(count))
        return {
            "library": found.name,
            "rows": len(found),
            "neighbours": [{**_row(found, row), "cosine": cosine} for row, cosine in near],
            "milliseconds": heard.milliseconds,
            "warnings": list(heard.warnings),
        }

    def play(row: int, bundle: str) -> dict[str, Any]:
        """A few seconds of a row of the library, as a data address of MP3."""
        found = searched(bundle)
        return {"audio": found.preview(int(row)), **_row(found, int(row))}

    try:
        first = draw_map(searched(models.names[0]))
    except UnheardError as error:
        first = refusal(str(error))
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            sound = add_sound(examples, "similar-sound")
        with gr.Column(scale=1, min_width=320):
            near = gr.HTML(NOTHING_YET, elem_id="neighbours", elem_classes="bare")
    playing = gr.HTML("", elem_id="playing", elem_classes="bare")
    dots = gr.HTML(first, elem_id="map", elem_classes="bare", js_on_load=BEHAVIOUR)
    react(sound.change, show, [sound, bundle], [near, dots], blank=("",))
    react(bundle.change, show, [sound, bundle], [near, dots], blank=("",))
    react(dots.click, play_dot, [bundle], [playing], blank=())
    add_action(similar, [sound, gr.Number(SHOWN, label="count", visible=False, precision=0), bundle], "similar")
    add_action(play, [gr.Number(0, label="row", visible=False, precision=0), bundle], "play")


def check_space(library: Library, embedder: Embedder, bundle: str) -> None:
    """UsageError where the library was embedded with another model than the bundle's."""
    space = embedder.manifest.embedding_space
    if library.space != space:
        raise UsageError(
            f"{library.name}: was embedded with another model ({library.space[:8]}) than bundle {bundle} has "
            f"({space[:8]}); embed the recordings again: python -m serving.embed {embedder.bundle.folder} "
            f"{library.root} --out NEW.parquet"
        )


def _embed(embedder: Embedder, path: str | None) -> tuple[NDArray[np.float32], Heard]:
    heard = hear(embedder, path)
    if heard.is_silent:
        raise AudioError("recording: is silent, so nothing is like it; send another")
    return pool(heard.rows), heard


def _row(library: Library, row: int) -> dict[str, Any]:
    return {
        "row": row,
        "recording": library.paths[row],  # Gradio's client would fetch what is called "path"
        "class": library.classes[row],
        "start_s": float(library.starts_s[row]),
        "duration_s": float(library.durations_s[row]),
    }


def _list(library: Library, near: list[tuple[int, float]], milliseconds: dict[str, float]) -> str:
    items = "".join(f"<li>{_player(library, row, cosine=cosine)}</li>" for row, cosine in near)
    times = facts(
        *(f"{stage} <b>{ms:.1f} ms</b>" for stage, ms in milliseconds.items()),
        f"among <b>{len(library)}</b> of {words(library.name)}",
    )
    return f'<div class="card"><ol class="neighbours">{items}</ol>{times}</div>'


def _player(library: Library, row: int, cosine: float | None = None, autoplay: bool = False) -> str:
    """A row's class, file and score, and its sound where that can be read."""
    name = words(library.classes[row]) or "no class"
    start = library.starts_s[row]
    place = words(library.paths[row]) + (f", {start:.1f} s" if start else "")
    score = "" if cosine is None else f'<span class="share" title="cosine of the embeddings">{cosine:.3f}</span>'
    try:
        attributes = f'{"autoplay " if autoplay else ""}controls preload="metadata" aria-label="{name}, {place}"'
        sound = f'<audio {attributes} src="{library.preview(row)}"></audio>'
    except AudioError as error:
        sound = f'<p class="note">{words(str(error))}</p>'
    return f'<div class="player"><b>{name}</b>{score}<small>{place}</small>{sound}</div>'


STYLE = """
.neighbours { list-style: none; margin: 0; padding: 0; display: grid; gap: 14px; }
.neighbours li { margin: 0; }
.player { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 2px 12px; align-items: baseline;
  color: var(--body-text-color); font-size: 15px; }
.player small { color: var(--body-text-color-subdued); font-size: 12px; overflow-wrap: anywhere; grid-column: 1 / -1; }
.player .share { font-variant-numeric: tabular-nums; color: var(--body-text-color-subdued); font-size: 14px; }
.player audio { grid-column: 1 / -1; width: 100%; height: 36px; margin-top: 4px; }
.dark .player audio { color-scheme: dark; }
.player .note { grid-column: 1 / -1; }
#playing .player { border: 1px solid var(--border-color-primary); border-radius: var(--block-radius);
  padding: 12px 18px; background: var(--block-background-fill); }
"""
