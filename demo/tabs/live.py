"""The tab "Live": rank labels for the last window of the microphone, twice a second."""

import time
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import soxr
from numpy.typing import NDArray

from demo.bundle_choice import BundleChoice
from demo.draw_ranking import as_json, draw_ranking, unknown_notes
from demo.embedded_recording import RankedLabels, rank_labels
from demo.events import PRIVATE, add_action, handle_event
from demo.html_elements import fact_line, hint_card
from demo.label_box import LabelBox, add_labels, read_labels
from serving.audio import LOWEST_DBFS, Recording, Window, cut_windows, is_silent, level_dbfs
from serving.embedder import Embedder
from serving.errors import AudioError, UnheardError

EVERY_S = 0.4  # interval of the rankings; if one takes longer, the next one waits for it
LISTENERS = 4  # maximum number of microphones at the same time
MAX_PIECE_S = 60.0
# Peak level below which clips of ESC-10 are named no better than by chance; it is not silent yet, see SILENT_DBFS.
QUIET_DBFS = -50.0
MICROPHONES = {"concurrency_limit": LISTENERS, "concurrency_id": "microphones"}
NOTHING_YET = hint_card(
    "Turn on the microphone: the page classifies the last seconds of sound twice a second.<br>No sound is stored."
)


class Ear:
    """The last window of sound from a microphone that sends pieces.

    wave     [n_samples] float32 mono at the model's rate, at most one window
    heard_s  duration of all pieces, in seconds
    fault    why the last piece could not be read; "" if it could
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Delete the sound and start again."""
        self.wave = np.zeros(0, np.float32)
        self.heard_s = 0.0
        self.fault = ""
        self._rates = (0, 0)
        self._resampler: soxr.ResampleStream | None = None

    def listen(self, piece: NDArray[np.float32], rate_hz: int, window: Window) -> None:
        """Append a piece [n_samples] float32 mono."""
        if self._resampler is None or self._rates != (rate_hz, window.rate_hz):
            # One resampler for all pieces: with one for each piece, every border would click.
            self._resampler = soxr.ResampleStream(rate_hz, window.rate_hz, 1, dtype="float32", quality="HQ")
            self._rates = (rate_hz, window.rate_hz)
        self.heard_s += len(piece) / rate_hz
        self.wave = np.concatenate([self.wave, self._resampler.resample_chunk(piece)])[-window.samples :]

    def level_dbfs(self, rate_hz: int) -> float:
        """Peak level of the last half second, see `serving.audio.level_dbfs`."""
        last = self.wave[-rate_hz // 2 :]
        return level_dbfs(last) if last.size else LOWEST_DBFS


def add_live(bundles: BundleChoice, bundle: gr.Dropdown) -> None:
    """Add the tab's components and actions.

    The browser sends pieces of sound. A timer requests a ranking of the last window. It sends no
    further request before the ranking arrives, so a slow machine ranks less often but always the newest sound.
    """

    def hear(piece: str | None, bundle: str, ear: Ear) -> None:
        if piece is None:
            return
        try:
            _listen(bundles.open(bundle), ear, piece)
            ear.fault = ""
        except UnheardError as error:
            ear.fault = str(error)
        finally:
            Path(piece).unlink(missing_ok=True)  # Gradio would keep 100 kB per second until the page closes

    def show(labels: str, offset: float, bundle: str, ear: Ear) -> Any:
        if ear.fault:
            raise AudioError(ear.fault)
        if not ear.wave.size:
            return gr.skip()
        embedder = bundles.open(bundle)
        ranked, milliseconds = _rank(embedder, ear, labels, offset)
        level = ear.level_dbfs(embedder.manifest.window.rate_hz)
        notes = ["It is quiet: this ranking describes the noise of the microphone."] if level < QUIET_DBFS else []
        notes += unknown_notes(ranked)
        return draw_ranking(embedder, ranked, notes, _facts(embedder, ear, level, milliseconds))

    def begin(ear: Ear) -> tuple[str, gr.Timer]:
        ear.clear()
        return hint_card("Listening …"), gr.Timer(active=True)

    sound, box, bars = _add_components(bundles, bundle)
    ear = gr.State(Ear())  # each session has its own copy
    clock = gr.Timer(EVERY_S, active=False)
    words = [box.labels, box.offset, bundle, ear]
    handle_event(sound.start_recording, begin, [ear], [bars, clock], blank=(gr.Timer(active=False),))
    handle_event(sound.stop_recording, lambda: gr.Timer(active=False), [], [clock])
    sound.stream(
        hear, [sound, bundle, ear], None, stream_every=EVERY_S, show_progress="hidden", **PRIVATE, **MICROPHONES
    )
    handle_event(clock.tick, show, words, [bars], blank=(), trigger_mode="once")
    _add_actions(bundles, sound, words, ear)


def _add_actions(bundles: BundleChoice, sound: gr.Audio, words: list[Any], ear: gr.State) -> None:
    """Add the API's actions. words: the components for labels, offset, bundle and the session's sound."""

    def listen(piece: str | None, labels: str, offset: float, bundle: str, ear: Ear) -> dict[str, Any]:
        """Append a piece of sound to this session, and rank labels for its last window."""
        embedder = bundles.open(bundle)
        _listen(embedder, ear, piece)
        ranked, milliseconds = _rank(embedder, ear, labels, offset)
        level = ear.level_dbfs(embedder.manifest.window.rate_hz)
        return {
            "ranking": as_json(ranked),
            "unknown_words": ranked.unknown_words,
            "heard_s": ear.heard_s,
            "level_dbfs": level,
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


def _add_components(bundles: BundleChoice, bundle: gr.Dropdown) -> tuple[gr.Audio, LabelBox, gr.HTML]:
    """The microphone, the labels and the ranking."""
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
            box = add_labels(bundles, bundle)
        with gr.Column(scale=1, min_width=320, elem_classes="answers"):
            bars = gr.HTML(NOTHING_YET, elem_id="live", elem_classes="bare")
    return sound, box, bars


def _listen(embedder: Embedder, ear: Ear, piece: str | None) -> None:
    """Append the sound of a file. The length in its header can be wrong, because the browser streams the file."""
    if piece is None:
        raise AudioError("piece: got none; send one audio file")
    recording = Recording.from_file(piece, None, MAX_PIECE_S)  # at its own rate: the ear resamples all pieces as one
    ear.listen(recording.wave, int(recording.rate_hz), embedder.manifest.window)


def _rank(embedder: Embedder, ear: Ear, labels: str, offset: float) -> tuple[RankedLabels, float]:
    """Rank labels for the last window. Returns the ranking and its time in milliseconds."""
    start = time.perf_counter()
    rows = embedder.run(cut_windows(ear.wave, embedder.manifest.window)[:1])
    ranked = rank_labels(embedder, rows, read_labels(labels, embedder.zeroshot.class_names), offset)
    return ranked, 1000 * (time.perf_counter() - start)


def _facts(embedder: Embedder, ear: Ear, level: float, milliseconds: float) -> str:
    window = embedder.manifest.window
    ranked_s = min(len(ear.wave), window.samples) / window.rate_hz
    width = max(0.0, min(1.0, (level + 80) / 80))
    meter = f'<i class="meter" role="meter" aria-label="level" aria-valuenow="{level:.0f}" aria-valuemin="-120"'
    meter += f' aria-valuemax="0"><i style="width:{100 * width:.0f}%"></i></i>'
    return fact_line(
        f"level {meter} <b>{level:.0f} dBFS</b>",
        f"the last <b>{ranked_s:.1f} s</b> of {ear.heard_s:.1f} s",
        f"computed in <b>{milliseconds:.0f} ms</b>",
        f"{embedder.backend}, {embedder.precision}",
    )
