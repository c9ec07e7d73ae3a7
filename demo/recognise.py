"""The tab "Name that sound": a sound in; ranked labels, its picture, its timeline and the time by stage out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from demo.action import add_action, react
from demo.bars import as_json, bar_notes, draw_bars
from demo.hearing import Heard, hear, rank
from demo.labels import add_labels, read_labels
from demo.looks import facts, hint, read_in_part
from demo.models import Models
from demo.pictures import draw_picture
from demo.sound import add_sound
from demo.timeline import draw_timeline, stretches
from serving.embedder import Embedder

NOTHING_YET = hint("Drop a sound, record one or take an example:<br>the ranking appears here.")


def add_recognition(models: Models, bundle: gr.Dropdown, examples: Sequence[tuple[Path, str]]) -> None:
    """Add the view. It answers by itself when a sound comes or goes, and when its labels change.

    examples   (file, name to show) pairs
    """

    def show(path: str | None, labels: str, offset: float, bundle: str) -> tuple[Any, ...]:
        if path is None:
            return NOTHING_YET, "", "", None
        embedder = models.open(bundle)
        heard = hear(embedder, path)
        bars, timeline = _ranked(embedder, heard, labels, offset)
        return bars, read_in_part(heard.warnings) + _picture(embedder, heard), timeline, heard

    def rank_again(heard: Heard | None, labels: str, offset: float, bundle: str) -> tuple[Any, Any]:
        embedder = models.open(bundle)
        if heard is None or heard.space != embedder.manifest.embedding_space:
            return gr.skip(), gr.skip()  # nothing to rank, or another bundle is listening to it just now
        return _ranked(embedder, heard, labels, offset)

    def classify(recording: str | None, labels: str, offset: float, bundle: str) -> dict[str, Any]:
        """Rank labels for one recording: ranking, the likeliest by window, milliseconds by stage, facts of the file."""
        embedder = models.open(bundle)
        heard = hear(embedder, recording)
        ranked = rank(embedder, heard.rows, read_labels(labels), offset)
        return {
            "ranking": as_json(ranked),
            "windows": [{"label": label, "probability": share} for label, share in ranked.by_window],
            "milliseconds": {**heard.milliseconds, "rank": ranked.milliseconds},
            "warnings": list(heard.warnings),
            "clip": {"seconds": heard.seconds, "rate_hz": heard.rate_hz, "channels": heard.channels},
            "backend": embedder.backend,
            "precision": embedder.precision,
        }

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320, elem_classes="sources"):
            sound = add_sound(examples, "sound")
            box = add_labels(models, bundle, api_name="preset")
        with gr.Column(scale=1, min_width=320, elem_classes="answers"):
            bars = gr.HTML(NOTHING_YET, elem_id="ranking", elem_classes="bare")
    timeline = gr.HTML("", elem_id="timeline", elem_classes="bare")
    picture = gr.HTML("", elem_id="picture", elem_classes="bare")
    heard = gr.State(None, time_to_live=3600)
    words = [box.labels, box.offset, bundle]
    shown = [bars, picture, timeline, heard]
    react(sound.change, show, [sound, *words], shown, blank=("", "", None))
    react(box.renewed.then, show, [sound, *words], shown, blank=("", "", None))
    for change in (box.labels.change, box.offset.change):
        react(change, rank_again, [heard, *words], [bars, timeline], blank=("",), trigger_mode="always_last")
    add_action(classify, [sound, *words], "classify")


def _ranked(embedder: Embedder, heard: Heard, labels: str, offset: float) -> tuple[str, str]:
    """The bars and the timeline."""
    ranked = rank(embedder, heard.rows, read_labels(labels), offset)
    window = embedder.manifest.window
    hop_s = window.hop_samples / window.rate_hz
    bars = draw_bars(embedder, ranked, bar_notes(heard, ranked, offset), _times(embedder, heard, ranked.milliseconds))
    if len(heard.rows) == 1:
        return bars, ""
    clip_s = len(heard.wave) / window.rate_hz
    return bars, draw_timeline(stretches(ranked.by_window, hop_s, clip_s), clip_s, max(clip_s, hop_s * len(heard.rows)))


def _picture(embedder: Embedder, heard: Heard) -> str:
    log_mel = embedder.log_mel(heard.wave, embedder.manifest.window.rate_hz)
    picture = draw_picture(heard.wave, log_mel, embedder.manifest.window, embedder.manifest.front_end)
    return f'<div class="card">{picture}</div>'


def _times(embedder: Embedder, heard: Heard, rank_ms: float) -> str:
    stages = {**heard.milliseconds, "rank": rank_ms}
    channels = {1: "mono", 2: "stereo"}.get(heard.channels, f"{heard.channels} channels")
    return facts(
        f"{heard.seconds:.2f} s, {channels}, {heard.rate_hz} Hz",
        *(f"{stage} <b>{ms:.1f} ms</b>" for stage, ms in stages.items()),
        f"total <b>{sum(stages.values()):.1f} ms</b>",
        f"{embedder.backend}, {embedder.precision}",
    )
