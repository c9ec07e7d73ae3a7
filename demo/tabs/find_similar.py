"""The tab "Find similar": find the recordings of a library that are like a sound or like words, and play them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from demo.bundle_choice import BundleChoice
from demo.carried_sound import add_offer
from demo.drawing.html_elements import SPEAK_SCRIPT, error_card, escape_name, fact_line, hint_card, partly_read_card
from demo.drawing.library_map import MAP_SCRIPT, draw_map
from demo.embedded_recording import EmbeddedRecording, embed_recording
from demo.events import add_action, handle_event
from demo.examples import Example
from demo.library import Library
from demo.recording_input import add_examples, add_recording_input
from serving.embedder import Embedder
from serving.errors import AudioError, UnheardError, UsageError
from serving.pooling import pool_like
from serving.search.query import Query, choose_phrases, make_query

SHOWN = 6  # neighbours
MAX_COUNT = 50  # neighbours of one API call
NOTHING_YET = hint_card(
    "Upload a sound, record one, choose an example, or describe a sound.<br>The most similar recordings appear here."
)
TYPE_WORDS = "English words, with Enter at the end; with a recording too, sounds are found that are like both"
TYPE_CLASS = "This bundle came without its text model: type the name of one of its classes"
NO_LIBRARY = "library: there is none; start the demo with --library X.parquet, --index X.index or --examples"


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

    def show(path: str | None, words: str, bundle: str) -> tuple[str, str]:
        found = searched(bundle)
        asked = ask(bundles.open(bundle), path, words, found.per)
        if asked is None:
            return NOTHING_YET, draw_map(found)
        near = found.search(asked.query, SHOWN)
        shown = partly_read_card(asked.warnings) + unknown_words_note(asked) + _list(found, near, asked)
        return shown, draw_map(found, asked.query.sound, [row for row, _ in near])

    def play_dot(event: gr.EventData, bundle: str) -> str:
        return _player(searched(bundle), int(event.row), autoplay=True)

    def similar(recording: str | None, count: int, bundle: str, words: str = "") -> dict[str, Any]:
        """Find the recordings of the library most similar to one, to words, or to both: row, class, start and duration
        in seconds, and the cosine, with words a score."""
        if not 1 <= count <= MAX_COUNT:
            raise UsageError(f"count: got {count}; wanted 1 to {MAX_COUNT}")
        found = searched(bundle)
        asked = ask(bundles.open(bundle), recording, words, found.per)
        if asked is None:
            raise AudioError("recording: got none, and no words; send one audio file, or words")
        near = found.search(asked.query, int(count))
        return {
            "library": found.name,
            "rows": len(found),
            "neighbours": [{**_row(found, row), asked.measure: score} for row, score in near],
            "milliseconds": asked.milliseconds,
            "warnings": list(asked.warnings),
            "unknown_words": asked.unknown_words,
        }

    def play(row: int, bundle: str) -> dict[str, Any]:
        """Get the first seconds of a row of the library as MP3 in a data URL."""
        found = searched(bundle)
        return {"audio": found.preview(int(row)), **_row(found, int(row))}

    def renew_advice(bundle: str) -> gr.Textbox:
        return gr.Textbox(info=advice(bundles.open(bundle)))

    first = bundles.names[0]
    parts = _add_components(examples, _first_map(searched, first), advice(bundles.open(first)))
    sound, words, near, playing, dots = parts.sound, parts.words, parts.near, parts.playing, parts.dots
    for listen in (sound.change, words.submit, words.blur, bundle.change):
        handle_event(listen, show, [sound, words, bundle], [near, dots], blank=("",))
    handle_event(bundle.change, renew_advice, [bundle], [words])
    handle_event(dots.click, play_dot, [bundle], [playing], blank=())
    count = gr.Number(SHOWN, label="count", visible=False, precision=0)
    add_action(similar, [sound, count, bundle, words], "similar")
    add_action(play, [gr.Number(0, label="row", visible=False, precision=0), bundle], "play")
    return sound, parts.offer


def _first_map(searched: Callable[[str], Library], bundle: str) -> str:
    try:
        return draw_map(searched(bundle))
    except UnheardError as error:
        return error_card(str(error))


@dataclass(frozen=True)
class _Components:
    """offer: the button that takes the recording of another tab; playing: the player of a dot; dots: the map."""

    sound: gr.Audio
    offer: gr.Button
    words: gr.Textbox
    near: gr.HTML
    playing: gr.HTML
    dots: gr.HTML


def _add_components(examples: Sequence[Example], first_map: str, info: str) -> _Components:
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            sound = add_recording_input("similar-sound")
            offer = add_offer()
            words = gr.Textbox(
                "", label="words", info=info, placeholder="rain on a tin roof", elem_id="similar-words", max_lines=1
            )
            add_examples(examples, sound)
        with gr.Column(scale=1, min_width=320):
            near = gr.HTML(NOTHING_YET, elem_id="neighbours", elem_classes="bare", js_on_load=SPEAK_SCRIPT)
    playing = gr.HTML("", elem_id="playing", elem_classes="bare")
    dots = gr.HTML(first_map, elem_id="map", elem_classes="bare", js_on_load=MAP_SCRIPT.read_text())
    return _Components(sound, offer, words, near, playing, dots)


def advice(embedder: Embedder) -> str:
    """What can be typed for this bundle."""
    return TYPE_WORDS if embedder.labels.knows_text else TYPE_CLASS


def check_space(library: Library, embedder: Embedder, bundle: str) -> None:
    """Raise UsageError if another model than the bundle's embedded the library."""
    space = embedder.manifest.embedding_space
    if library.space != space:
        raise UsageError(
            f"{library.name}: was embedded with another model ({library.space[:8]}) than bundle {bundle} has "
            f"({space[:8]}); embed the recordings again: python -m serving.embed {embedder.bundle.folder} "
            f"{library.root} --out NEW.parquet"
        )


@dataclass(frozen=True, eq=False)
class _Asked:
    """A recording, words, or both, as a query. milliseconds, warnings: of the recording."""

    query: Query
    milliseconds: dict[str, float]
    warnings: tuple[str, ...]
    unknown_words: dict[str, list[str]]

    @property
    def measure(self) -> str:
        """What orders the rows."""
        return "cosine" if self.query.phrases is None else "score"


def ask(embedder: Embedder, path: str | None, words: str | None, per: str) -> _Asked | None:
    """The query for a recording and words; None: both are missing.

    per      what each row of the library is that is searched: "clip" or "window"
    errors   AudioError: the recording cannot be read, or is silent; LabelError: the words cannot be understood
    """
    words = (words or "").strip()
    if path is None and not words:
        return None
    phrases = choose_phrases(embedder, [words] if words else [])
    embedded = None if path is None else _embed(embedder, path)
    sound = None if embedded is None else pool_like(per, embedded.rows, embedded.levels)
    query = make_query(embedder.manifest.embedding_space, embedder.zeroshot, sound, phrases)
    unknown = embedder.labels.unknown_words([words] if words else [])
    return _Asked(query, embedded.milliseconds if embedded else {}, embedded.warnings if embedded else (), unknown)


def unknown_words_note(asked: _Asked) -> str:
    """A note about words that the text model does not know, as HTML; "" if it knows all."""
    words = ", ".join(word for words in asked.unknown_words.values() for word in words)
    return f'<p class="note">The text model does not know: {escape_name(words)}.</p>' if words else ""


def _embed(embedder: Embedder, path: str) -> EmbeddedRecording:
    embedded = embed_recording(embedder, path)
    if embedded.is_silent:
        raise AudioError("recording: is silent, so it has no similar sounds; send another one")
    return embedded


def _row(library: Library, row: int) -> dict[str, Any]:
    return {
        "row": row,
        "recording": library.paths[row],  # not "path": Gradio's client would download it
        "class": library.classes[row],
        "start_s": float(library.starts_s[row]),
        "duration_s": float(library.durations_s[row]),
    }


def _list(library: Library, near: list[tuple[int, float]], asked: _Asked) -> str:
    items = "".join(f"<li>{_player(library, row, score, asked.measure)}</li>" for row, score in near)
    times = fact_line(
        *(f"{stage} <b>{ms:.1f} ms</b>" for stage, ms in asked.milliseconds.items()),
        f"searched <b>{len(library)}</b> rows of {escape_name(library.name)}",
    )
    spoken = f"nearest: {escape_name(library.classes[near[0][0]]) or 'no class'}" if near else "no recordings"
    return f'<div class="card" data-spoken="{spoken}"><ol class="neighbours">{items}</ol>{times}</div>'


MEASURES = {
    "cosine": "cosine of the embeddings less their mean",
    "score": "odds of the words against the bundle's classes; with a recording, standard deviations above the mean",
}


def _player(
    library: Library, row: int, score: float | None = None, measure: str = "cosine", autoplay: bool = False
) -> str:
    """Draw a row: class, file, score, and a player if the recording can be read. measure: one of MEASURES."""
    name = escape_name(library.classes[row]) or "no class"
    start = library.starts_s[row]
    place = escape_name(library.paths[row]) + (f", {start:.1f} s" if start else "")
    number = "" if score is None else f'<span class="share" title="{MEASURES[measure]}">{score:.3f}</span>'
    try:
        attributes = f'{"autoplay " if autoplay else ""}controls preload="metadata" aria-label="{name}, {place}"'
        sound = f'<audio {attributes} src="{library.preview(row)}"></audio>'
    except AudioError as error:
        sound = f'<p class="note">{escape_name(str(error))}</p>'
    return f'<div class="player"><b>{name}</b>{number}<small>{place}</small>{sound}</div>'
