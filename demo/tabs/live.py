"""The tab "Live": rank labels for the last seconds of the microphone, twice a second, and log what was heard."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from demo.bundle_choice import BundleChoice
from demo.drawing.draw_live import (
    NOTHING_YET,
    WAITING,
    draw_log,
    draw_no_microphone,
    draw_stopped,
    draw_warming_up,
    live_facts,
)
from demo.drawing.draw_ranking import as_json, draw_ranking, label_notes
from demo.drawing.html_elements import SAVE_SCRIPT, SPEAK_SCRIPT
from demo.ear import Ear, kept_samples
from demo.events import PRIVATE, add_action, handle_event
from demo.heard import NOTHING
from demo.labels.label_box import LabelBox, Sounds, add_labels
from demo.labels.ranked_labels import RankedLabels, rank_labels
from demo.labels.typed_labels import read_descriptions, read_labels
from demo.upload import named_upload
from demo.verdict import judge
from serving.audio import Recording, cut_windows, is_silent, level_dbfs
from serving.embedder import Embedder
from serving.errors import AudioError, UnheardError

EVERY_S = 0.4  # interval of the rankings; if one takes longer, the next one waits for it
LISTENERS = 4  # maximum number of microphones at the same time
MAX_PIECE_S = 60.0
# Peak level below which clips of ESC-10 are named no better than by chance; it is not silent yet, see SILENT_DBFS.
QUIET_DBFS = -50.0
MICROPHONES = {"concurrency_limit": LISTENERS, "concurrency_id": "microphones"}
QUIET = "It is quiet: this ranking describes the noise of the microphone."
LIVE_SCRIPT = Path(__file__).with_name("live.js")


@dataclass(frozen=True)
class _Components:
    sound: gr.Audio
    box: LabelBox
    bars: gr.HTML
    log: gr.HTML
    save: gr.Button
    table: gr.Textbox


def add_live(bundles: BundleChoice, bundle: gr.Radio, promise: gr.HTML, sounds: Sounds) -> LabelBox:
    """Add the tab's components and actions. promise, sounds: see `add_labels`. Returns the labels.

    The browser sends pieces of sound. A timer requests a ranking of the newest sound. It sends no further request
    before the ranking arrives, so a slow machine ranks less often but always the newest sound.
    """

    def hear(piece: str | None, bundle: str, ear: Ear) -> None:
        if piece is not None:
            hear_piece(bundles, bundle, ear, piece)

    def show(labels: str, favour: float, bundle: str, descriptions: str, ear: Ear) -> tuple[Any, ...]:
        if ear.ended:
            ear.ended = False
            return draw_stopped(ear), gr.skip(), gr.skip(), gr.Timer(active=False)
        if ear.fault:
            raise AudioError(ear.fault)
        embedder = bundles.open(bundle)
        window = embedder.manifest.window
        if not ear.listening or not ear.wave.size:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        if not ear.is_warm(window):
            return draw_warming_up(ear, kept_samples(window) / window.rate_hz), gr.skip(), gr.skip(), gr.skip()
        answer = _answer(embedder, ear, labels, favour, descriptions)
        return answer, draw_log(ear), gr.Button(visible=bool(ear.log)), gr.skip()

    def begin(ear: Ear) -> tuple[Any, ...]:
        ear.clear()
        ear.listening = True
        return WAITING, "", gr.Button(visible=False), gr.Timer(active=True)

    def end(ear: Ear) -> Any:
        """Let the next request of the timer show the end. One shown from here could be covered by a late answer."""
        if not ear.listening:  # there was no microphone
            return gr.Timer(active=False)
        ear.listening, ear.ended = False, True
        return gr.skip()

    def tell_fault(event: gr.EventData, ear: Ear) -> tuple[Any, ...]:
        ear.listening = False
        return draw_no_microphone(str(event.reason)[:200]), gr.Timer(active=False)

    parts = _add_components(bundles, bundle, promise, sounds)
    ear = gr.State(Ear())  # each session has its own copy
    timer = gr.Timer(EVERY_S, active=False)
    box = parts.box
    words = [box.labels, box.favour, bundle, box.descriptions, ear]
    off = gr.Timer(active=False)
    shown = [parts.bars, parts.log, parts.save]
    handle_event(parts.sound.start_recording, begin, [ear], [*shown, timer], blank=("", gr.Button(visible=False), off))
    handle_event(parts.sound.stop_recording, end, [ear], [timer])
    handle_event(parts.bars.click, tell_fault, [ear], [parts.bars, timer], blank=(off,))
    parts.sound.stream(
        hear, [parts.sound, bundle, ear], None, stream_every=EVERY_S, show_progress="hidden", **PRIVATE, **MICROPHONES
    )
    unchanged = (gr.skip(), gr.skip(), gr.skip())
    handle_event(timer.tick, show, words, [*shown, timer], blank=unchanged, trigger_mode="once")
    saved = handle_event(parts.save.click, lambda ear: ear.log_as_csv(), [ear], [parts.table])
    saved.then(None, [parts.table], None, js=f'text => ({SAVE_SCRIPT})("heard.csv", text)', **PRIVATE)
    _add_actions(bundles, parts.sound, words, ear)
    return box


def _add_actions(bundles: BundleChoice, sound: gr.Audio, words: list[Any], ear: gr.State) -> None:
    """Add the API's actions. words: the components for labels, favour, bundle, descriptions and the session's sound."""

    def listen(
        piece: str | None, labels: str, favour: float, bundle: str, descriptions: str, ear: Ear
    ) -> dict[str, Any]:
        """Append a piece of sound to this session, and rank labels for its newest sound."""
        embedder = bundles.open(bundle)
        _listen(embedder, ear, piece)
        ranked, milliseconds = _rank(embedder, ear, labels, favour, descriptions)
        return {
            "ranking": as_json(ranked),
            "none_of_these": ranked.none_of_these,
            "unknown_words": ranked.unknown_words,
            "heard_s": ear.heard_s,
            "warming_up": not ear.is_warm(embedder.manifest.window),
            "level_dbfs": ear.level_dbfs(embedder.manifest.window.rate_hz),
            "silent": is_silent(level_dbfs(ear.wave)),
            "milliseconds": milliseconds,
        }

    def stop(ear: Ear) -> dict[str, float]:
        """Delete this session's sound. The next piece starts a new recording."""
        heard_s = ear.heard_s
        ear.clear()
        return {"heard_s": heard_s}

    add_action(listen, [sound, *words], "listen")
    add_action(stop, [ear], "stop")


def _add_components(bundles: BundleChoice, bundle: gr.Radio, promise: gr.HTML, sounds: Sounds) -> _Components:
    """The microphone, the labels, the ranking and the log."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320, elem_classes="sources"):
            sound = gr.Audio(
                sources=["microphone"],
                type="filepath",
                streaming=True,
                label="microphone",
                elem_id="microphone",
                elem_classes="sound",
                buttons=[],
            )
            box = add_labels(bundles, bundle, promise, sounds)
        with gr.Column(scale=1, min_width=320, elem_classes="answers"):
            script = SPEAK_SCRIPT + LIVE_SCRIPT.read_text()
            bars = gr.HTML(NOTHING_YET, elem_id="live", elem_classes="bare", js_on_load=script)
            log = gr.HTML("", elem_id="log", elem_classes="bare")
            save = gr.Button("Download the log as CSV", visible=False, size="sm", elem_classes="save")
            table = gr.Textbox(visible=False)
    return _Components(sound, box, bars, log, save, table)


def hear_piece(bundles: BundleChoice, bundle: str, ear: Ear, piece: str) -> None:
    """Append the sound of a file from the microphone, and delete the file. What was wrong with it is `ear.fault`."""
    try:
        _listen(bundles.open(bundle), ear, piece)
        ear.fault = ""
    except UnheardError as error:
        # Gradio names files after their content: an equal piece of another visitor, like silence, deleted this one.
        ear.fault = str(error) if Path(piece).exists() else ""
    finally:
        Path(piece).unlink(missing_ok=True)  # Gradio would keep 100 kB per second until the page closes


def _listen(embedder: Embedder, ear: Ear, piece: str | None) -> None:
    """Append the sound of a file. The length in its header can be wrong, because the browser streams the file."""
    if piece is None:
        raise AudioError("piece: got none; send one audio file")
    last = ear.last_piece
    if last and last[0] == piece and not Path(piece).exists():
        pass  # Gradio names files after their content, so an equal piece, like digital silence, is deleted already
    else:
        with named_upload(piece):
            recording = Recording.from_file(piece, None, MAX_PIECE_S)  # at its own rate: the ear resamples all as one
        last = ear.last_piece = piece, recording.wave, int(recording.rate_hz)
    ear.listen(*last[1:], embedder.manifest.window)


def _answer(embedder: Embedder, ear: Ear, labels: str, favour: float, descriptions: str) -> str:
    """Rank labels for the newest sound, log the answer and draw it."""
    ranked, milliseconds = _rank(embedder, ear, labels, favour, descriptions)
    window = embedder.manifest.window
    silent = is_silent(level_dbfs(ear.newest(window)))
    level = ear.level_dbfs(window.rate_hz)
    verdict = judge(ranked, silent)
    label, share = ranked.ranking[0]
    ear.answer = verdict.spoken
    ear.note(NOTHING if verdict.text else label, share)
    notes = [QUIET] if level < QUIET_DBFS and not verdict.text else []
    return draw_ranking(
        embedder,
        ranked,
        verdict,
        [*notes, *label_notes(ranked)],
        live_facts(embedder, ear, level, milliseconds),
    )


def _rank(embedder: Embedder, ear: Ear, labels: str, favour: float, descriptions: str) -> tuple[RankedLabels, float]:
    """Rank labels for the newest sound. Returns the ranking and its time in milliseconds."""
    start = time.perf_counter()
    window = embedder.manifest.window
    rows = embedder.run(cut_windows(ear.newest(window), window))
    named = read_labels(labels, embedder.zeroshot.class_names)
    ranked = rank_labels(embedder, rows, named, favour, read_descriptions(descriptions, embedder))
    return ranked, 1000 * (time.perf_counter() - start)
