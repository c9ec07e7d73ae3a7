"""The page: a sound in, ranked classes, its picture and the time by stage out. Gradio over serving.embedder."""

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import soundfile
from gradio.themes import Base
from numpy.typing import NDArray

from demo.pictures import PLAYHEAD, draw_picture
from demo.pictures import STYLE as PICTURE_STYLE
from serving.audio import decode_audio, to_mono
from serving.embedder import Embedder
from serving.errors import AudioError, UnheardError

STAGES: tuple[str, ...] = ("decode", "resample", "model")
SHOWN_CLASSES = 10
SILENCE = 1e-4  # greatest sample of a recording that has nothing to hear, -80 dB of full scale
MAX_SECONDS = 600  # longest recording that the page takes
MAX_SAMPLES = MAX_SECONDS * 48_000 * 2  # and the most samples of all channels: 230 MB once decoded
MAX_UPLOAD = "100mb"
AT_ONCE = 2  # recordings analysed at the same time; one inference uses every core already
WAITING = 32  # recordings that may wait for their turn
KEPT_S = 3600  # uploads are deleted after this time, and when the demo ends
ACCURACIES = ("zeroshot_map_test_accuracy", "test_accuracy")  # the page ranks by the map, so its score comes first


@dataclass(frozen=True)
class Answer:
    """What one recording gave.

    ranking       (class, probability) pairs, likeliest first; the probabilities sum to 1
    milliseconds  by stage: decode, resample, model
    wave          [n_samples] float32 mono at the model's rate
    rate_hz, channels, seconds   of the file as it came
    """

    ranking: list[tuple[str, float]]
    milliseconds: dict[str, float]
    wave: NDArray[np.float32]
    rate_hz: int
    channels: int
    seconds: float


def analyse(embedder: Embedder, path: Path) -> Answer:
    """Decode one file, resample it and rank the bundle's classes, with the time that each took.

    errors   AudioError: not readable, empty, samples not finite, longer than the page takes
    """
    times = [time.perf_counter()]
    data = path.read_bytes()
    _refuse_long(data, path.name)
    samples, rate_hz = decode_audio(data, path.name)  # [n_samples, n_channels]
    times.append(time.perf_counter())
    target_hz = embedder.manifest.window.rate_hz
    wave = to_mono(samples, rate_hz, target_hz)
    times.append(time.perf_counter())
    ranking = embedder.classify(wave, target_hz)
    times.append(time.perf_counter())
    stages: dict[str, float] = dict(zip(STAGES, (1000 * np.diff(times)).tolist(), strict=True))
    return Answer(ranking, stages, wave, rate_hz, samples.shape[1], len(samples) / rate_hz)


def _refuse_long(data: bytes, name: str) -> None:
    """AudioError before a small file of a very long sound is decoded and fills the memory."""
    try:
        info = soundfile.info(BytesIO(data))
    except (soundfile.SoundFileError, RuntimeError):
        return  # decode_audio says what is wrong with it
    if info.duration > MAX_SECONDS or info.frames * info.channels > MAX_SAMPLES:
        got = f"{info.duration:.0f} s, {info.channels} channels at {info.samplerate} Hz"
        raise AudioError(f"{name}: got {got}; the page takes up to {MAX_SECONDS} s of stereo at 48000 Hz, cut it")


def build_page(embedder: Embedder, examples: Sequence[tuple[Path, str]] = ()) -> gr.Blocks:
    """The whole page. Each view of the model is one function that adds its components; now there is one.

    examples   (file, name to show) pairs
    """
    with gr.Blocks(title="Unheard", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)) as page:
        gr.HTML(_header(embedder), elem_id="header")
        add_recognition(embedder, examples)
    return page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)


def launch_settings() -> dict[str, Any]:
    """The part of the page's looks and limits that Gradio takes at its launch."""
    theme = Base(
        primary_hue="orange",
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(body_text_color_subdued="*neutral_500", block_background_fill_dark="*neutral_900")
    return {
        "theme": theme,
        "css": STYLE + PICTURE_STYLE,
        "head": f"<style>{FRAME_STYLE}</style><script>{PLAYHEAD}</script>",
        "max_file_size": MAX_UPLOAD,
        "footer_links": ["api", "settings"],
        "run_history": False,
        "ssr_mode": False,
        "quiet": True,
    }


def add_recognition(embedder: Embedder, examples: Sequence[tuple[Path, str]]) -> None:
    """One sound in; ranked classes, picture and times out. Runs by itself when a sound comes or goes."""

    def show(path: str | None) -> tuple[str, str]:
        if path is None:
            return NOTHING_YET, ""
        try:
            answer = analyse(embedder, Path(path))
        except UnheardError as error:
            reason = html.escape(str(error), quote=False)
            gr.Warning(reason)
            return _hint(f"<b>This recording cannot be used.</b><br>{reason}"), ""
        log_mel = embedder.log_mel(answer.wave, embedder.manifest.window.rate_hz)
        picture = draw_picture(answer.wave, log_mel, embedder.manifest.window, embedder.manifest.front_end)
        return _bars(embedder, answer), f'<div class="card">{picture}{_facts(answer)}</div>'

    def classify(recording: str | None) -> dict[str, Any]:
        """Rank the bundle's classes for one recording: ranking, milliseconds by stage, facts of the file."""
        try:
            if recording is None:
                raise AudioError("recording: got none; send one audio file")
            return _as_json(embedder, analyse(embedder, Path(recording)))
        except UnheardError as error:
            raise gr.Error(str(error), print_exception=False) from error

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            sound = gr.Audio(
                sources=["upload", "microphone"], type="filepath", label="recording", elem_id="sound", buttons=[]
            )
            if examples:
                gr.Examples(
                    [[str(path)] for path, _ in examples],
                    sound,
                    label="examples",
                    example_labels=[name for _, name in examples],
                    examples_per_page=len(examples),
                    api_visibility="private",
                )
        with gr.Column(scale=1, min_width=320):
            bars = gr.HTML(NOTHING_YET, elem_id="ranking")
    picture = gr.HTML("", elem_id="picture")
    shared = {"concurrency_limit": AT_ONCE, "concurrency_id": "model", "show_progress": "hidden"}
    shown = sound.change(show, sound, [bars, picture], api_visibility="private", **shared)
    shown.failure(lambda: (_hint(FAULT), ""), None, [bars, picture], api_visibility="private", show_progress="hidden")
    # Programs get numbers instead of HTML; the button only carries the event and is never drawn.
    trigger, numbers = gr.Button(visible=False), gr.JSON(label="answer", visible=False)
    trigger.click(classify, sound, numbers, api_name="classify", **shared)


def _as_json(embedder: Embedder, answer: Answer) -> dict[str, Any]:
    unheard = _unheard(embedder)
    return {
        "ranking": [
            {"label": label, "probability": share, "seen": label not in unheard} for label, share in answer.ranking
        ],
        "milliseconds": answer.milliseconds,
        "clip": {"seconds": answer.seconds, "rate_hz": answer.rate_hz, "channels": answer.channels},
    }


def _unheard(embedder: Embedder) -> set[str]:
    """Classes that the bundle ranks and was not trained on."""
    return set(embedder.zeroshot.class_names) - set(embedder.manifest.seen_classes)


def _words(name: str) -> str:
    """A class or bundle name for people, safe inside HTML."""
    return html.escape(name.replace("_", " "))


def _header(embedder: Embedder) -> str:
    manifest = embedder.manifest
    facts = {
        "bundle": embedder.bundle.folder.resolve().name,
        "network": manifest.network,
        "trained on": f"{manifest.dataset}, {len(manifest.seen_classes)} classes",
        "test accuracy": next(
            (f"{manifest.scores[name]:.1%}" for name in ACCURACIES if name in manifest.scores), "none"
        ),
        "backend": embedder.backend,
    }
    rows = "".join(f"<div><dt>{name}</dt><dd>{html.escape(value)}</dd></div>" for name, value in facts.items())
    return f"<header><h1>Unheard</h1><p>{TAGLINE}</p><dl>{rows}</dl></header>"


def _bars(embedder: Embedder, answer: Answer) -> str:
    unheard = _unheard(embedder)
    shown, rest = answer.ranking[:SHOWN_CLASSES], answer.ranking[SHOWN_CLASSES:]
    rows = "".join(
        f'<li><span class="label">{_words(label)}{MARK if label in unheard else ""}</span>'
        f'<span class="share">{share:.1%}</span>'
        f'<span class="track"><i style="width:{100 * share:.2f}%"></i></span></li>'
        for label, share in shown
    )
    notes = []
    if rest:
        notes.append(f"{len(rest)} more classes share {sum(share for _, share in rest):.1%}.")
    if any(label in unheard for label, _ in shown):
        notes.append(f"{MARK} No recording of this class was in the training: only its description is known.")
    if np.abs(answer.wave).max() < SILENCE:
        notes.append("This recording is silent, so its ranking means nothing.")
    return f'<div class="card"><ol class="bars">{rows}</ol>{"".join(f"<p>{note}</p>" for note in notes)}</div>'


def _facts(answer: Answer) -> str:
    channels = {1: "mono", 2: "stereo"}.get(answer.channels, f"{answer.channels} channels")
    stages = "".join(f"<span>{stage} <b>{ms:.1f} ms</b></span>" for stage, ms in answer.milliseconds.items())
    total = sum(answer.milliseconds.values())
    return (
        f'<p class="facts"><span>{answer.seconds:.2f} s, {channels}, {answer.rate_hz} Hz</span>'
        f"{stages}<span>total <b>{total:.1f} ms</b></span></p>"
    )


def _hint(text: str) -> str:
    return f'<div class="card hint"><p>{text}</p></div>'


TAGLINE = "Drop a sound or record one. The model ranks its classes by how well their words describe what it hears."
MARK = '<b class="mark">unheard</b>'
FAULT = "Something went wrong here, and not with your recording. The demo's log says what."
NOTHING_YET = _hint("The ranking appears here.")

# Gradio confines the style below to the components; what is around them needs its own.
FRAME_STYLE = """
.main.fillable { max-width: 1280px !important; }
@media (max-width: 640px) { footer .divider { display: none !important; } }
"""
STYLE = """
.gradio-container { --unheard-accent: #d9480f; --unheard-track: #f1f5f9; }
.dark .gradio-container, .gradio-container.dark { --unheard-accent: #ff922b; --unheard-track: #1e293b; }
#header .html-container, #ranking .html-container, #picture .html-container { padding: 0; }
.card { border: 1px solid var(--border-color-primary); border-radius: var(--block-radius);
  background: var(--block-background-fill); padding: 18px; color: var(--body-text-color); }
header h1 { font-size: 30px; font-weight: 700; letter-spacing: -.02em; margin: 0; color: var(--body-text-color); }
header p { margin: 4px 0 14px; font-size: 16px; color: var(--body-text-color-subdued); }
header dl { display: flex; flex-wrap: wrap; gap: 6px 28px; margin: 0; font-size: 14px; }
header dl div { display: flex; gap: 6px; }
header dt { color: var(--body-text-color-subdued); }
header dd { margin: 0; font-weight: 600; color: var(--body-text-color); }
#sound { --neutral-400: var(--body-text-color-subdued); }
#sound .upload-container > .wrap { min-height: 162px; }
#sound [data-testid=source-select] { gap: 24px; padding-block: 8px; height: auto; }
#sound [data-testid=source-select] button { width: auto; height: 24px; display: flex; gap: 8px; align-items: center; }
#sound [data-testid=source-select] svg { width: 18px; height: 18px; }
#sound [data-testid=source-select] button::after { content: "Upload"; font-size: 14px; }
#sound [data-testid=source-select] button + button::after { content: "Record"; }
.hint { border-style: dashed; display: grid; place-content: center; min-height: 220px; text-align: center; }
.hint p { color: var(--body-text-color-subdued); margin: 0; font-size: 15px; line-height: 1.6;
  overflow-wrap: anywhere; }
.bars { list-style: none; margin: 0; padding: 0; display: grid; gap: 9px; }
.bars li { display: grid; grid-template-columns: minmax(0, 1fr) auto; gap: 3px 12px; font-size: 14px; line-height: 1.3;
  margin: 0; color: var(--body-text-color-subdued); }
.bars li:first-child { font-size: 22px; font-weight: 650; color: var(--body-text-color); padding-bottom: 6px; }
.bars .share { font-variant-numeric: tabular-nums; }
.bars .track { grid-column: 1 / -1; height: 6px; border-radius: 3px; background: var(--unheard-track);
  overflow: hidden; }
.bars li:first-child .track { height: 10px; border-radius: 5px; }
.bars .track i { display: block; height: 100%; min-width: 2px; border-radius: inherit; opacity: .55;
  background: var(--unheard-accent); }
.bars li:first-child .track i { opacity: 1; }
.mark { padding: 0 6px; border: 1px solid currentColor; border-radius: 9px; font-size: 12px; font-weight: 500;
  color: inherit; white-space: nowrap; }
.bars .mark { margin-left: 8px; }
.bars ~ p { margin: 12px 0 0; line-height: 1.5; font-size: 13px; color: var(--body-text-color-subdued); }
.facts { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 14px 0 0; padding-top: 12px; font-size: 13px;
  border-top: 1px solid var(--border-color-primary); color: var(--body-text-color-subdued);
  font-variant-numeric: tabular-nums; }
.facts b { font-weight: 600; color: var(--body-text-color); }
@media (max-width: 640px) {
  .card { padding: 14px; }
  header dl { gap: 4px 18px; font-size: 13px; }
}
"""
