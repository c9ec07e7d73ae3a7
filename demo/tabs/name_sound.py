"""The tab "Name that sound": rank labels for a sound, with its spectrogram, its timeline and the time by stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from demo.bundle_choice import BundleChoice
from demo.draw_ranking import SILENT, as_json, draw_ranking, draw_timeline, join_windows, ranking_notes
from demo.embedded_recording import EmbeddedRecording, RankedLabels, embed_recording, rank_labels
from demo.events import add_action, handle_event
from demo.html_elements import fact_line, hint_card, partly_read_card
from demo.label_box import add_labels, read_labels
from demo.recording_input import add_recording_input
from demo.spectrogram import draw_spectrogram
from serving.audio import is_silent
from serving.embedder import Embedder

NOTHING_YET = hint_card("Upload a sound, record one, or choose an example:<br>the ranking appears here.")


def add_name_sound(bundles: BundleChoice, bundle: gr.Dropdown, examples: Sequence[tuple[Path, str]]) -> None:
    """Add the tab's components and actions. The ranking updates when the sound or the labels change.

    examples   (file, name to show) pairs
    """

    def show(path: str | None, labels: str, offset: float, bundle: str) -> tuple[Any, ...]:
        if path is None:
            return NOTHING_YET, "", "", None
        embedder = bundles.open(bundle)
        embedded = embed_recording(embedder, path)
        bars, timeline = _ranked(embedder, embedded, labels, offset)
        return bars, partly_read_card(embedded.warnings) + _picture(embedder, embedded), timeline, embedded

    def rank_again(embedded: EmbeddedRecording | None, labels: str, offset: float, bundle: str) -> tuple[Any, Any]:
        embedder = bundles.open(bundle)
        if embedded is None or embedded.space != embedder.manifest.embedding_space:
            return gr.skip(), gr.skip()  # no recording, or `show` is embedding it with another bundle
        return _ranked(embedder, embedded, labels, offset)

    def classify(recording: str | None, labels: str, offset: float, bundle: str) -> dict[str, Any]:
        """Rank labels for one recording: ranking, the likeliest by window, milliseconds by stage, facts of the file.

        A recording or a window whose peak level is below -70 dBFS is silent: its ranking says nothing.
        """
        embedder = bundles.open(bundle)
        embedded = embed_recording(embedder, recording)
        ranked = rank_labels(embedder, embedded.rows, read_labels(labels, embedder.zeroshot.class_names), offset)
        return _result(embedder, embedded, ranked)

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320, elem_classes="sources"):
            sound = add_recording_input(examples, "sound")
            box = add_labels(bundles, bundle, api_name="preset")
        with gr.Column(scale=1, min_width=320, elem_classes="answers"):
            bars = gr.HTML(NOTHING_YET, elem_id="ranking", elem_classes="bare")
    timeline = gr.HTML("", elem_id="timeline", elem_classes="bare")
    picture = gr.HTML("", elem_id="picture", elem_classes="bare")
    embedded = gr.State(None, time_to_live=3600)
    words = [box.labels, box.offset, bundle]
    shown = [bars, picture, timeline, embedded]
    handle_event(sound.change, show, [sound, *words], shown, blank=("", "", None))
    handle_event(box.renewed.then, show, [sound, *words], shown, blank=("", "", None))
    for change in (box.labels.change, box.offset.change):
        handle_event(change, rank_again, [embedded, *words], [bars, timeline], blank=("",), trigger_mode="always_last")
    add_action(classify, [sound, *words], "classify")


def _result(embedder: Embedder, embedded: EmbeddedRecording, ranked: RankedLabels) -> dict[str, Any]:
    """The API's answer for one recording."""
    return {
        "ranking": as_json(ranked),
        "unknown_words": ranked.unknown_words,
        "windows": [
            {"label": label, "probability": share, "level_dbfs": level, "silent": is_silent(level)}
            for (label, share), level in zip(ranked.by_window, embedded.levels, strict=True)
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


def _ranked(embedder: Embedder, embedded: EmbeddedRecording, labels: str, offset: float) -> tuple[str, str]:
    """Draw the ranking and the timeline."""
    ranked = rank_labels(embedder, embedded.rows, read_labels(labels, embedder.zeroshot.class_names), offset)
    window = embedder.manifest.window
    hop_s = window.hop_samples / window.rate_hz
    bars = draw_ranking(
        embedder, ranked, ranking_notes(embedded, ranked, offset), _times(embedder, embedded, ranked.milliseconds)
    )
    if len(embedded.rows) == 1:
        return bars, ""
    clip_s = len(embedded.wave) / window.rate_hz
    by_window = [
        SILENT if is_silent(level) else named for named, level in zip(ranked.by_window, embedded.levels, strict=True)
    ]
    segments = join_windows(by_window, hop_s, clip_s)
    return bars, draw_timeline(segments, clip_s, max(clip_s, hop_s * len(embedded.rows)))


def _picture(embedder: Embedder, embedded: EmbeddedRecording) -> str:
    log_mel = embedder.log_mel(embedded.wave, embedder.manifest.window.rate_hz)
    picture = draw_spectrogram(embedded.wave, log_mel, embedder.manifest.window, embedder.manifest.front_end)
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
