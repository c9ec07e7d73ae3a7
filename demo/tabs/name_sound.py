"""The tab "Name that sound": rank labels for a sound, with what is heard when and its spectrogram."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import gradio as gr

from demo.answer import as_answer, heard_in, rank_typed
from demo.bundle_choice import BundleChoice
from demo.carried_sound import add_offer
from demo.drawing.draw_heard import draw_heard, draw_strip, spoken_list
from demo.drawing.draw_ranking import draw_ranking, ranking_notes
from demo.drawing.html_elements import SAVE_SCRIPT, SPEAK_SCRIPT, error_card, fact_line, hint_card, partly_read_card
from demo.drawing.spectrogram import draw_spectrogram
from demo.embedded_recording import EmbeddedRecording, embed_recording
from demo.events import PRIVATE, add_action, handle_event
from demo.examples import Example
from demo.heard_table import TABLES, write_table
from demo.labels.label_box import LabelBox, Sounds, add_labels
from demo.long_recording import WAITING, Visitor, Words, draw_progress, stated_s
from demo.recording_input import add_examples, add_recording_input
from demo.streamed_recording import embed_any_length, stream_recording
from demo.verdict import NOTHING_TO_HEAR, Verdict, judge
from serving.audio import file_seconds
from serving.embedder import Embedder
from serving.errors import AudioError, DurationError, LabelError, UsageError

NOTHING_YET = hint_card("Upload a sound, record one, or choose an example:<br>the ranking appears here.")
OVERLAPS = ("none", "half")
BLANK = ("", "", gr.Row(visible=False), None)  # picture, strip, tables and embeddings where there is no answer
LONG = {"concurrency_limit": 2, "concurrency_id": "long"}  # others' short recordings do not wait for long ones


def add_name_sound(
    bundles: BundleChoice, bundle: gr.Radio, examples: Sequence[Example], promise: gr.HTML, sounds: Sounds
) -> tuple[gr.Audio, gr.Button, LabelBox]:
    """Add the tab's components and actions. The ranking updates when the sound or the labels change.

    promise, sounds   see `add_labels`
    returns           the recording, the button that takes that of another tab, and the labels
    """

    def show(
        path: str | None, labels: str, favour: float, bundle: str, descriptions: str, overlap: str, visitor: Visitor
    ) -> tuple[Any, ...]:
        visitor.choose(Words(labels, favour, descriptions))
        if path is None:
            return NOTHING_YET, *BLANK, gr.skip()
        embedder = bundles.open(bundle)
        try:
            embedded = embed_recording(embedder, path, _hop_seconds(embedder, overlap))
        except DurationError:
            visitor.put(path, bundle, overlap)
            return WAITING, *BLANK, visitor.player(plain=True)
        bars, strip = _draw(embedder, embedded, labels, favour, descriptions)
        picture = partly_read_card(embedded.warnings) + _picture(embedder, embedded)
        return bars, picture, strip, gr.Row(visible=True), embedded, visitor.player(plain=False)

    def follow(visitor: Visitor) -> Iterator[tuple[Any, ...]]:
        """Name a long recording while it is read, until the visitor chooses another sound."""
        job = visitor.take()
        if job is None:
            yield (gr.skip(),) * 5
            return
        embedder = bundles.open(job.bundle)
        stated = stated_s(file_seconds(job.path))
        steps = stream_recording(embedder, job.path, _hop_seconds(embedder, job.overlap))
        with closing(steps):
            for embedded, is_last in steps:
                step = _step(embedder, embedded, visitor.words, None if is_last else stated)
                if visitor.number != job.number:
                    yield (gr.skip(),) * 5  # at its end Gradio sends again what was yielded last
                    return
                yield step

    def rank_again(
        embedded: EmbeddedRecording | None,
        path: str | None,
        labels: str,
        favour: float,
        bundle: str,
        descriptions: str,
        visitor: Visitor,
    ) -> tuple[Any, Any]:
        visitor.words = Words(labels, favour, descriptions)
        embedder = bundles.open(bundle)
        if embedded is None or embedded.path != path or embedded.space != embedder.manifest.embedding_space:
            return gr.skip(), gr.skip()  # no recording, or `show` is embedding another one, or with another bundle
        return _draw(embedder, embedded, labels, favour, descriptions)

    def classify(
        recording: str | None, labels: str, favour: float, bundle: str, descriptions: str, overlap: str
    ) -> dict[str, Any]:
        """Rank labels for one recording: ranking, the likeliest by window, what is heard when, milliseconds by stage.

        A recording or a window whose peak level is below -70 dBFS is silent: its ranking says nothing.
        """
        embedder = bundles.open(bundle)
        embedded = embed_any_length(embedder, recording, _hop_seconds(embedder, overlap))
        return as_answer(embedder, embedded, rank_typed(embedder, embedded, labels, favour, descriptions))

    def table_of(form: str) -> Callable[..., tuple[str, str]]:
        def write(
            embedded: EmbeddedRecording | None,
            path: str | None,
            labels: str,
            favour: float,
            bundle: str,
            descriptions: str,
        ) -> tuple[str, str]:
            if embedded is None or embedded.path != path:
                raise AudioError("recording: is still being read; download what is heard when it is shown")
            embedder = bundles.open(bundle)
            ranked = rank_typed(embedder, embedded, labels, favour, descriptions)
            return write_table(form, embedder, embedded, ranked, heard_in(embedded, ranked))

        return write

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320, elem_classes="sources"):
            sound = add_recording_input("sound")
            offer = add_offer()
            place = gr.Column(elem_classes="examples")
            box = add_labels(bundles, bundle, promise, sounds, api_name="preset")
            overlap = gr.Radio(
                list(OVERLAPS),
                value=OVERLAPS[0],
                label="overlap of windows",
                info="With half, each moment is heard in two windows, and it takes twice the time.",
                elem_id="overlap",
            )
        with gr.Column(scale=1, min_width=320, elem_classes="answers"):
            bars = gr.HTML(NOTHING_YET, elem_id="ranking", elem_classes="bare", js_on_load=SPEAK_SCRIPT)
    with place:
        add_examples(examples, sound, box.labels)
    strip = gr.HTML("", elem_id="timeline", elem_classes="bare")
    with gr.Row(visible=False, elem_classes="tables") as tables:
        buttons = {
            form: gr.Button(
                f"Download for {name}" if form != "csv" else f"Download as {name}", size="sm", elem_classes="save"
            )
            for name, form in TABLES.items()
        }
    picture = gr.HTML("", elem_id="picture", elem_classes="bare")
    file_name, table = gr.Textbox(visible=False), gr.Textbox(visible=False)
    embedded = gr.State(None, time_to_live=3600)
    visitor = gr.State(Visitor())  # each session has its own copy
    words = [sound, box.labels, box.favour, bundle, box.descriptions, overlap]
    shown = [bars, picture, strip, tables, embedded]
    for change in (sound.change, box.renewed.then, overlap.change):
        # "multiple": a new sound does not wait until a long one has been read; its turn ends that one.
        ready = handle_event(
            change, show, [*words, visitor], [*shown, sound], blank=(*BLANK, gr.skip()), trigger_mode="multiple"
        )
        handle_event(ready.then, follow, [visitor], shown, blank=BLANK, trigger_mode="multiple", **LONG)
    again = [embedded, *words[:-1], visitor]
    for change in (box.labels.change, box.favour.change, box.descriptions.change):
        handle_event(change, rank_again, again, [bars, strip], blank=("",), trigger_mode="always_last")
    for form, button in buttons.items():
        saved = handle_event(button.click, table_of(form), [embedded, *words[:-1]], [file_name, table])
        saved.then(None, [file_name, table], None, js=SAVE_SCRIPT, **PRIVATE)
    add_action(classify, words, "classify")
    return sound, offer, box


def _hop_seconds(embedder: Embedder, overlap: str) -> float | None:
    if overlap not in OVERLAPS:
        raise UsageError(f"overlap: got {overlap}; wanted {' or '.join(OVERLAPS)}")
    return embedder.manifest.window.seconds / 2 if overlap == "half" else None


def _step(embedder: Embedder, embedded: EmbeddedRecording, words: Words, stated: float | None) -> tuple[Any, ...]:
    """Draw what is known of a long recording."""
    try:
        bars, strip = _draw(embedder, embedded, words.labels, words.favour, words.descriptions, stated)
    except LabelError as error:  # the embeddings are right for other labels
        bars, strip = error_card(str(error)), ""
    picture = partly_read_card(embedded.warnings) + draw_progress(embedded, stated)
    return bars, picture, strip, gr.Row(visible=True), embedded


def _draw(
    embedder: Embedder,
    embedded: EmbeddedRecording,
    labels: str,
    favour: float,
    descriptions: str,
    stated: float | None = None,
) -> tuple[str, str]:
    """Draw the ranking and the strip of what is heard when; the strip is "" for one window.

    stated   duration in seconds of a recording that is still being read; 0: not known. It is not spoken, because it
             changes every second
    """
    ranked = rank_typed(embedder, embedded, labels, favour, descriptions)
    verdict = judge(ranked, embedded.is_silent, embedded.seconds)
    notes = ranking_notes(embedded, ranked, favour)
    times = _times(embedder, embedded, ranked.milliseconds)
    if len(embedded.rows) == 1 or verdict.text == NOTHING_TO_HEAR:
        return draw_ranking(embedder, ranked, verdict, notes, times), ""
    stretches = heard_in(embedded, ranked)
    if stretches:
        verdict = Verdict("", "", spoken_list(stretches) if stated is None else "")
    headline = draw_heard(stretches) if not verdict.text else ""
    window = embedder.manifest.window  # the spectrogram's, which has the same axis
    padded_s = window.count(len(embedded.wave)) * window.hop_samples / window.rate_hz if len(embedded.wave) else 0.0
    axis_s = max(embedded.sound_s, padded_s, stated or 0.0)
    folded = len({stretch.label for stretch in stretches}) > 1
    return draw_ranking(embedder, ranked, verdict, notes, times, headline, folded), draw_strip(stretches, axis_s)


def _picture(embedder: Embedder, embedded: EmbeddedRecording) -> str:
    log_mel = embedder.log_mel(embedded.wave, embedded.window.rate_hz)
    picture = draw_spectrogram(embedded.wave, log_mel, embedded.window, embedder.manifest.front_end)
    return f'<div class="card">{picture}</div>'


def _times(embedder: Embedder, embedded: EmbeddedRecording, rank_ms: float) -> str:
    stages = {**embedded.milliseconds, "rank": rank_ms}
    channels = {1: "mono", 2: "stereo"}.get(embedded.channels, f"{embedded.channels} channels")
    return fact_line(
        f"{embedded.seconds:.2f} s, {channels}, {embedded.rate_hz} Hz",
        f"peak <b>{embedded.level_dbfs:.0f} dBFS</b>",
        *(f"{stage} <b>{ms:.1f} ms</b>" for stage, ms in stages.items()),
        f"total <b>{sum(stages.values()):.1f} ms</b>",
        f"{embedder.backend}, {embedder.precision}",
    )
