"""The tab "Compare": run one recording in every runtime and precision of the bundle that works on this machine."""

import html
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from demo.bundle_choice import BundleChoice
from demo.carried_sound import add_offer
from demo.drawing.html_elements import SPEAK_SCRIPT, escape_name, hint_card
from demo.embedded_recording import embed_recording
from demo.events import add_action, handle_event
from demo.examples import Example
from demo.recording_input import add_examples, add_recording_input
from serving.backends.backend_choice import BACKENDS, open_backend
from serving.backends.runtime import Runtime
from serving.cosine import worst_cosine
from serving.embedder import Embedder
from serving.errors import UnheardError
from serving.pooling import pool

REFERENCE = ("onnxruntime", "fp32")
REPEATS = 9
WARM_UP = 1  # calls before the timing, in addition to the call whose embeddings are compared
MAX_WINDOWS = 8  # at the start of a recording: 38 s for windows of 4.8 s
NOTHING_YET = hint_card(
    "Upload a sound, record one, or choose an example.<br>The accuracy and latency of each runtime appear here."
)
QUEUE = {"concurrency_limit": 1, "concurrency_id": "compare", "show_progress": "minimal"}


@dataclass(frozen=True)
class Outcome:
    """The result of one runtime for a recording.

    cosine        between the clip's embedding and the reference's, -1 to 1
    worst_cosine  smallest cosine of a window
    median_ms     median time of REPEATS calls with all windows in one batch
    fault         why the runtime does not work on this machine; then the other fields are empty
    """

    backend: str
    precision: str
    version: str = ""
    cosine: float | None = None
    worst_cosine: float | None = None
    median_ms: float | None = None
    label: str = ""
    probability: float | None = None
    fault: str = ""


def run_everywhere(embedder: Embedder, windows: NDArray[np.float32]) -> list[Outcome]:
    """Run windows [n, samples] float32 in every backend and precision. The first outcome is the reference.

    errors   errors of `open_backend` for the reference
    """
    reference = _open(embedder, *REFERENCE)(windows)
    pairs = [
        (backend, precision) for backend in BACKENDS if backend != "auto" for precision in embedder.manifest.models
    ]
    return [_outcome(embedder, pair, windows, reference) for pair in sorted(pairs, key=lambda pair: pair != REFERENCE)]


def _outcome(
    embedder: Embedder, pair: tuple[str, str], windows: NDArray[np.float32], reference: NDArray[np.float32]
) -> Outcome:
    try:
        runtime = _open(embedder, *pair)
    except UnheardError as error:
        return Outcome(*pair, fault=str(error))
    rows = runtime(windows)
    seconds = []
    for turn in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        runtime(windows)
        if turn >= WARM_UP:
            seconds.append(time.perf_counter() - start)
    label, probability = embedder.zeroshot.rank(pool(rows))[0]
    worst = worst_cosine(rows, reference)
    clip = worst_cosine(pool(rows)[None], pool(reference)[None])
    return Outcome(*pair, runtime.version, clip, worst, 1000 * statistics.median(seconds), label, probability)


def _open(embedder: Embedder, backend: str, precision: str) -> Runtime:
    if (backend, precision) == (embedder.backend, embedder.precision):
        return embedder.runtime
    return _open_once(embedder, backend, precision)


@lru_cache(12)
def _open_once(embedder: Embedder, backend: str, precision: str) -> Runtime:
    return open_backend(embedder.bundle, backend, precision, embedder.threads, strict=True)


def add_compare_runtimes(
    bundles: BundleChoice, bundle: gr.Radio, examples: Sequence[Example]
) -> tuple[gr.Audio, gr.Button]:
    """Add the tab's components and actions. Returns the recording, and the button that takes that of another tab."""

    def run(recording: str | None, bundle: str) -> tuple[Embedder, list[Outcome], int, int]:
        embedder = bundles.open(bundle)
        embedded = embed_recording(embedder, recording)
        windows = embedder.windows(embedded.wave, embedder.manifest.window.rate_hz)
        used = windows[:MAX_WINDOWS]
        return embedder, run_everywhere(embedder, used), len(used), len(windows)

    def show(path: str | None, bundle: str) -> str:
        return NOTHING_YET if path is None else _table(*run(path, bundle))

    def compare_for_programs(recording: str | None, bundle: str) -> dict[str, Any]:
        """Run each backend and precision: cosine to ONNX Runtime FP32 and median milliseconds, or why it cannot run."""
        embedder, outcomes, used, _ = run(recording, bundle)
        return {"results": [asdict(outcome) for outcome in outcomes], "windows": used, "threads": embedder.threads}

    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            sound = add_recording_input("compare-sound")
            offer = add_offer()
            add_examples(examples, sound)
        with gr.Column(scale=3, min_width=320):
            table = gr.HTML(
                NOTHING_YET, elem_id="comparison", elem_classes="bare", min_height=240, js_on_load=SPEAK_SCRIPT
            )
    handle_event(sound.change, show, [sound, bundle], [table], blank=(), **QUEUE)
    handle_event(bundle.change, show, [sound, bundle], [table], blank=(), **QUEUE)
    add_action(compare_for_programs, [sound, bundle], "compare", **QUEUE)
    return sound, offer


def _table(embedder: Embedder, outcomes: list[Outcome], used: int, n_windows: int) -> str:
    ran = [outcome for outcome in outcomes if outcome.median_ms is not None]
    slowest = max(outcome.median_ms or 0 for outcome in ran)
    rows = "".join(_line(outcome, slowest) for outcome in ran)
    faults = "".join(
        f"<li><b>{outcome.backend}, {outcome.precision}</b> {html.escape(outcome.fault)}</li>"
        for outcome in outcomes
        if outcome.fault
    )
    not_here = (
        f"<details><summary>{len(outcomes) - len(ran)} do not run on this machine</summary><ul>{faults}</ul></details>"
    )
    cut = f"the first {used} of {n_windows} windows" if used < n_windows else f"{used} window{'s' if used > 1 else ''}"
    return (
        '<div class="card" data-spoken="The runtimes are compared">'
        '<div class="wide" role="region" tabindex="0" aria-label="the runtimes"><table class="compared">'
        "<caption>This sound in each runtime and precision</caption><thead><tr>"
        '<th scope="col">runtime</th><th scope="col">precision</th><th scope="col">cosine to FP32</th>'
        '<th scope="col">latency</th><th scope="col">best label</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f'<p class="note">Latency: median of {REPEATS} calls after a warm-up, with {cut} in one batch on '
        f"{embedder.threads} threads. Cosine: similarity to the clip's embedding in ONNX Runtime FP32; point at it for "
        f"the worst window.</p>{not_here if faults else ''}</div>"
    )


def _line(outcome: Outcome, slowest: float) -> str:
    assert outcome.median_ms is not None
    assert outcome.probability is not None
    return (
        f'<tr><th scope="row">{outcome.backend} <small>{html.escape(outcome.version)}</small></th>'
        f"<td>{outcome.precision.upper()}</td>"
        f'<td class="cosine" title="worst window: {outcome.worst_cosine:.6f}">{outcome.cosine:.6f}</td>'
        f'<td class="time"><span class="track"><i style="width:{100 * outcome.median_ms / slowest:.1f}%"></i></span>'
        f"<b>{outcome.median_ms:.1f} ms</b></td>"
        f"<td>{escape_name(outcome.label)} <small>{outcome.probability:.0%}</small></td></tr>"
    )
