"""The tab "Find similar": find the recordings of a library that are most similar to a sound, and play them."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from demo.bundle_choice import BundleChoice
from demo.carried_sound import add_offer
from demo.embedded_recording import EmbeddedRecording, embed_recording
from demo.events import add_action, handle_event
from demo.examples import Example
from demo.html_elements import SPEAK_SCRIPT, error_card, escape_name, fact_line, hint_card, partly_read_card
from demo.library import Library
from demo.library_map import MAP_SCRIPT, draw_map
from demo.recording_input import add_examples, add_recording_input
from serving.embedder import Embedder
from serving.errors import AudioError, UnheardError, UsageError
from serving.pooling import pool

SHOWN = 6  # neighbours
MAX_COUNT = 50  # neighbours of one API call
NOTHING_YET = hint_card("Upload a sound, record one, or choose an example.<br>The most similar recordings appear here.")
NO_LIBRARY = "library: there is none; start the demo with --library X.parquet or --examples"


def add_find_similar(
    bundles: BundleChoice,
    bundle: gr.Radio,
    examples: Sequence[Example],
    library: Library | None,
    of_examples: Callable[[str], Library],
) -> tuple[gr.Audio, gr.Button]:
    """Add the tab's components and actions.

    library      recordings to search; None: the examples
    of_examples  bundle name -> the examples as a library
    returns      the recording, and the button that takes that of another tab
    """

    def searched(bundle: str) -> Library:
        """The library to search. UsageError: another model embedded it."""
        if library is None and not examples:
            raise UsageError(NO_LIBRARY)
        found = library or of_examples(bundle)
        check_space(found, bundles.open(bundle), bundle)
        return found

    def show(path: str | None, bundle: str) -> tuple[str, str]:
        found = searched(bundle)
        if path is None:
            return NOTHING_YET, draw_map(found)
        embedding, embedded = _embed(bundles.open(bundle), path)
        near = found.nearest(embedding, SHOWN)
        shown = partly_read_card(embedded.warnings) + _list(found, near, embedded.milliseconds)
        return shown, draw_map(found, embedding, [row for row, _ in near])

    def play_dot(event: gr.EventData, bundle: str) -> str:
        return _player(searched(bundle), int(event.row), autoplay=True)

    def similar(recording: str | None, count: int, bundle: str) -> dict[str, Any]:
        """Find the recordings of the library most similar to one: row, class, cosine, start and duration in seconds."""
        if not 1 <= count <= MAX_COUNT:
            raise UsageError(f"count: got {count}; wanted 1 to {MAX_COUNT}")
        found = searched(bundle)
        embedding, embedded = _embed(bundles.open(bundle), recording)
        near = found.nearest(embedding, int(count))
        return {
            "library": found.name,
            "rows": len(found),
            "neighbours": [{**_row(found, row), "cosine": cosine} for row, cosine in near],
            "milliseconds": embedded.milliseconds,
            "warnings": list(embedded.warnings),
        }

    def play(row: int, bundle: str) -> dict[str, Any]:
        """Get the first seconds of a row of the library as MP3 in a data URL."""
        found = searched(bundle)
        return {"audio": found.preview(int(row)), **_row(found, int(row))}

    sound, offer, near, playing, dots = _add_components(examples, _first_map(searched, bundles.names[0]))
    handle_event(sound.change, show, [sound, bundle], [near, dots], blank=("",))
    handle_event(bundle.change, show, [sound, bundle], [near, dots], blank=("",))
    handle_event(dots.click, play_dot, [bundle], [playing], blank=())
    add_action(similar, [sound, gr.Number(SHOWN, label="count", visible=False, precision=0), bundle], "similar")
    add_action(play, [gr.Number(0, label="row", visible=False, precision=0), bundle], "play")
    return sound, offer


def _first_map(searched: Callable[[str], Library], bundle: str) -> str:
    try:
        return draw_map(searched(bundle))
    except UnheardError as error:
        return error_card(str(error))


def _add_components(
    examples: Sequence[Example], first_map: str
) -> tuple[gr.Audio, gr.Button, gr.HTML, gr.HTML, gr.HTML]:
    """The recording, the button that takes that of another tab, its neighbours, the player of a dot, and the map."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            sound = add_recording_input("similar-sound")
            offer = add_offer()
            add_examples(examples, sound)
        with gr.Column(scale=1, min_width=320):
            near = gr.HTML(NOTHING_YET, elem_id="neighbours", elem_classes="bare", js_on_load=SPEAK_SCRIPT)
    playing = gr.HTML("", elem_id="playing", elem_classes="bare")
    dots = gr.HTML(first_map, elem_id="map", elem_classes="bare", js_on_load=MAP_SCRIPT.read_text())
    return sound, offer, near, playing, dots


def check_space(library: Library, embedder: Embedder, bundle: str) -> None:
    """Raise UsageError if another model than the bundle's embedded the library."""
    space = embedder.manifest.embedding_space
    if library.space != space:
        raise UsageError(
            f"{library.name}: was embedded with another model ({library.space[:8]}) than bundle {bundle} has "
            f"({space[:8]}); embed the recordings again: python -m serving.embed {embedder.bundle.folder} "
            f"{library.root} --out NEW.parquet"
        )


def _embed(embedder: Embedder, path: str | None) -> tuple[NDArray[np.float32], EmbeddedRecording]:
    embedded = embed_recording(embedder, path)
    if embedded.is_silent:
        raise AudioError("recording: is silent, so it has no similar sounds; send another one")
    return pool(embedded.rows), embedded


def _row(library: Library, row: int) -> dict[str, Any]:
    return {
        "row": row,
        "recording": library.paths[row],  # not "path": Gradio's client would download it
        "class": library.classes[row],
        "start_s": float(library.starts_s[row]),
        "duration_s": float(library.durations_s[row]),
    }


def _list(library: Library, near: list[tuple[int, float]], milliseconds: dict[str, float]) -> str:
    items = "".join(f"<li>{_player(library, row, cosine=cosine)}</li>" for row, cosine in near)
    times = fact_line(
        *(f"{stage} <b>{ms:.1f} ms</b>" for stage, ms in milliseconds.items()),
        f"searched <b>{len(library)}</b> rows of {escape_name(library.name)}",
    )
    spoken = f"nearest: {escape_name(library.classes[near[0][0]]) or 'no class'}" if near else "no recordings"
    return f'<div class="card" data-spoken="{spoken}"><ol class="neighbours">{items}</ol>{times}</div>'


def _player(library: Library, row: int, cosine: float | None = None, autoplay: bool = False) -> str:
    """Draw a row: class, file, cosine, and a player if the recording can be read."""
    name = escape_name(library.classes[row]) or "no class"
    start = library.starts_s[row]
    place = escape_name(library.paths[row]) + (f", {start:.1f} s" if start else "")
    score = "" if cosine is None else f'<span class="share" title="cosine of the embeddings">{cosine:.3f}</span>'
    try:
        attributes = f'{"autoplay " if autoplay else ""}controls preload="metadata" aria-label="{name}, {place}"'
        sound = f'<audio {attributes} src="{library.preview(row)}"></audio>'
    except AudioError as error:
        sound = f'<p class="note">{escape_name(str(error))}</p>'
    return f'<div class="player"><b>{name}</b>{score}<small>{place}</small>{sound}</div>'
