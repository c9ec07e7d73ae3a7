"""The tab "Name that sound": rank labels for a sound, with what is heard when and its spectrogram."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from demo.bundle_choice import BundleChoice
from demo.carried_sound import add_offer
from demo.draw_heard import draw_heard, draw_strip, spoken_list
from demo.draw_ranking import as_json, draw_ranking, ranking_notes
from demo.embedded_recording import EmbeddedRecording, embed_recording
from demo.events import add_action, handle_event
from demo.examples import Example
from demo.heard import Heard, heard
from demo.html_elements import SPEAK_SCRIPT, fact_line, hint_card, partly_read_card
from demo.label_box import LabelBox, Sounds, add_labels
from demo.ranked_labels import RankedLabels, rank_labels
from demo.recording_input import add_examples, add_recording_input
from demo.spectrogram import draw_spectrogram
from demo.typed_labels import read_descriptions, read_labels
from demo.verdict import NOTHING_TO_HEAR, Verdict, judge
from serving.embedder import Embedder

NOTHING_YET = hint_card("Upload a sound, record one, or choose an example:<br>the ranking appears here.")


def add_name_sound(
    bundles: BundleChoice, bundle: gr.Radio, examples: Sequence[Example], promise: gr.HTML, sounds: Sounds
) -> tuple[gr.Audio, gr.Button, LabelBox]:
    """Add the tab's components and actions. The ranking updates when the sound or the labels change.

    promise, sounds   see `add_labels`
    returns           the recording, the button that takes that of another tab, and the labels
    """

    def show(path: str | None, labels: str, offset: float, bundle: str, descriptions: str) -> tuple[Any, ...]:
        if path is None:
            return NOTHING_YET, "", "", None
        embedder = bundles.open(bundle)
        embedded = embed_recording(embedder, path)
        bars, strip = _draw(embedder, embedded, labels, offset, descriptions)
        return bars, partly_read_card(embedded.warnings) + _picture(embedder, embedded), strip, embedded

    def rank_again(
        embedded: EmbeddedRecording | None,
        path: str | None,
        labels: str,
        offset: float,
        bundle: str,
        descriptions: str,
    ) -> tuple[Any, Any]:
        embedder = bundles.open(bundle)
        if embedded is None or embedded.path != path or embedded.space != embedder.manifest.embedding_space:
            return gr.skip(), gr.skip()  # no recording, or `show` is embedding another one, or with another bundle
        return _draw(embedder, embedded, labels, offset, descriptions)

    def classify(recording: str | None, labels: str, offset: float, bundle: str, descriptions: str) -> dict[str, Any]:
        """Rank labels for one recording: ranking, the likeliest by window, what is heard when, milliseconds by stage.

        A recording or a window whose peak level is below -70 dBFS is silent: its ranking says nothing.
        """
        embedder = bundles.open(bundle)
        embedded = embed_recording(embedder, recording)
        return _result(embedder, embedded, _rank(embedder, embedded, labels, offset, descriptions))

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320, elem_classes="sources"):
            sound = add_recording_input("sound")
            offer = add_offer()
            place = gr.Column(elem_classes="examples")
            box = add_labels(bundles, bundle, promise, sounds, api_name="preset")
        with gr.Column(scale=1, min_width=320, elem_classes="answers"):
            bars = gr.HTML(NOTHING_YET, elem_id="ranking", elem_classes="bare", js_on_load=SPEAK_SCRIPT)
    with place:
        add_examples(examples, sound, box.labels)
    strip = gr.HTML("", elem_id="timeline", elem_classes="bare")
    picture = gr.HTML("", elem_id="picture", elem_classes="bare")
    embedded = gr.State(None, time_to_live=3600)
    words = [sound, box.labels, box.offset, bundle, box.descriptions]
    shown = [bars, picture, strip, embedded]
    handle_event(sound.change, show, words, shown, blank=("", "", None))
    handle_event(box.renewed.then, show, words, shown, blank=("", "", None))
    for change in (box.labels.change, box.offset.change, box.descriptions.change):
        handle_event(change, rank_again, [embedded, *words], [bars, strip], blank=("",), trigger_mode="always_last")
    add_action(classify, words, "classify")
    return sound, offer, box


def _rank(
    embedder: Embedder, embedded: EmbeddedRecording, labels: str, offset: float, descriptions: str
) -> RankedLabels:
    named = read_labels(labels, embedder.zeroshot.class_names)
    return rank_labels(embedder, embedded.rows, named, offset, read_descriptions(descriptions, embedder))


def _stretches(embedded: EmbeddedRecording, ranked: RankedLabels) -> list[Heard]:
    labels = ranked.named_windows(embedded.silent_windows)
    return heard(embedded.starts_s, embedded.ends_s, labels, [share for _, share in ranked.by_window])


def _result(embedder: Embedder, embedded: EmbeddedRecording, ranked: RankedLabels) -> dict[str, Any]:
    """The API's answer for one recording."""
    return {
        "ranking": as_json(ranked),
        "none_of_these": ranked.none_of_these,
        "unknown_words": ranked.unknown_words,
        "windows": [
            {"label": label, "probability": share, "level_dbfs": level, "silent": silent, "none_of_these": none}
            for (label, share), level, silent, none in zip(
                ranked.by_window, embedded.levels, embedded.silent_windows, ranked.none_by_window, strict=True
            )
        ],
        "heard": [
            {
                "label": stretch.label,
                "start_s": stretch.start_s,
                "end_s": stretch.end_s,
                "probability": stretch.probability,
            }
            for stretch in _stretches(embedded, ranked)
        ],
        "milliseconds": {**embedded.milliseconds, "rank": ranked.milliseconds},
        "warnings": list(embedded.warnings),
        "clip": {
            "seconds": embedded.seconds,
            "rate_hz": embedded.rate_hz,
            "channels": embedded.channels,
            "level_dbfs": embedded.level_dbfs,
            "silent": embedded.is_silent,
        },
        "backend": embedder.backend,
        "precision": embedder.precision,
    }


def _draw(
    embedder: Embedder, embedded: EmbeddedRecording, labels: str, offset: float, descriptions: str
) -> tuple[str, str]:
    """Draw the ranking and the strip of what is heard when; the strip is "" for one window."""
    ranked = _rank(embedder, embedded, labels, offset, descriptions)
    verdict = judge(ranked, embedded.is_silent)
    notes = ranking_notes(embedded, ranked, offset)
    times = _times(embedder, embedded, ranked.milliseconds)
    if len(embedded.rows) == 1 or verdict.text == NOTHING_TO_HEAR:
        return draw_ranking(embedder, ranked, verdict, notes, times), ""
    stretches = _stretches(embedded, ranked)
    if stretches:
        verdict = Verdict("", "", spoken_list(stretches))
    headline = draw_heard(stretches) if not verdict.text else ""
    axis_s = max(embedded.sound_s, len(embedded.rows) * embedded.window.hop_samples / embedded.window.rate_hz)
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
