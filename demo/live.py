"""The tab "Live": the last window of what a microphone hears, ranked twice a second for as long as it is on."""

import time
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import soxr
from numpy.typing import NDArray

from demo.action import PRIVATE, add_action, react
from demo.bars import as_json, draw_bars
from demo.hearing import Ranked, rank
from demo.labels import add_labels, read_labels
from demo.looks import facts, hint
from demo.models import Models
from serving.audio import Window, cut_windows, read_audio
from serving.embedder import Embedder
from serving.errors import AudioError, UnheardError

EVERY_S = 0.4  # from one answer to the next; where one takes longer, the next waits for it
LISTENERS = 4  # microphones that may be on at the same time
MAX_PIECE_S = 60.0
QUIET_DB = -60.0  # of full scale: below it there is hardly anything to name
MICROPHONES = {"concurrency_limit": LISTENERS, "concurrency_id": "microphones"}
NOTHING_YET = hint("Turn the microphone on: what it hears is named twice a second.<br>Nothing of it is kept.")


class Ear:
    """The last window of what a microphone sends in pieces.

    wave     [n_samples] float32 mono at the model's rate, no longer than a window
    heard_s  all that was heard, in seconds
    fault    why the last piece could not be heard, "" where it could
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget what was heard."""
        self.wave = np.zeros(0, np.float32)
        self.heard_s = 0.0
        self.fault = ""
        self._rates = (0, 0)
        self._resampler: soxr.ResampleStream | None = None

    def listen(self, piece: NDArray[np.float32], rate_hz: int, window: Window) -> None:
        """Add a piece [n_samples, n_channels] float32 that follows the one before."""
        if self._resampler is None or self._rates != (rate_hz, window.rate_hz):
            # One resampler for all pieces: each by itself would click at its ends.
            self._resampler = soxr.ResampleStream(rate_hz, window.rate_hz, 1, dtype="float32", quality="HQ")
            self._rates = (rate_hz, window.rate_hz)
        self.heard_s += len(piece) / rate_hz
        mono = np.ascontiguousarray(piece.mean(axis=1), dtype=np.float32)
        self.wave = np.concatenate([self.wave, self._resampler.resample_chunk(mono)])[-window.samples :]

    def level_db(self, rate_hz: int) -> float:
        """Of the last half second, in dB of full scale; -120 for digital silence."""
        last = self.wave[-rate_hz // 2 :]
        return float(10 * np.log10(np.square(last).mean() + 1e-12)) if last.size else -120.0


def add_live(models: Models, bundle: gr.Dropdown) -> None:
    """Add the view.

    The browser sends a piece of sound every 0.1 s, which takes a moment to add to the last window. A timer asks for
    an answer about that window; it does not ask again before it has one, so that a slow machine makes answers rare
    and never late.
    """

    def hear(piece: str | None, bundle: str, ear: Ear) -> None:
        if piece is None:
            return
        try:
            _listen(models.open(bundle), ear, piece)
            ear.fault = ""
        except UnheardError as error:
            ear.fault = str(error)
        finally:
            Path(piece).unlink(missing_ok=True)  # 100 kB a second would stay until the page closes

    def show(labels: str, offset: float, bundle: str, ear: Ear) -> Any:
        if ear.fault:
            raise AudioError(ear.fault)
        if not ear.wave.size:
            return gr.skip()
        embedder = models.open(bundle)
        ranked, milliseconds = _rank(embedder, ear, labels, offset)
        level = ear.level_db(embedder.manifest.window.rate_hz)
        notes = ["It is quiet here: what is named is the noise of the microphone."] if level < QUIET_DB else []
        return draw_bars(embedder, ranked, notes, _facts(embedder, ear, level, milliseconds))

    def begin(ear: Ear) -> tuple[str, gr.Timer]:
        ear.clear()
        return hint("Listening …"), gr.Timer(active=True)

    def listen(piece: str | None, labels: str, offset: float, bundle: str, ear: Ear) -> dict[str, Any]:
        """Add a piece of sound to what this session heard, and rank labels for its last window."""
        embedder = models.open(bundle)
        _listen(embedder, ear, piece)
        ranked, milliseconds = _rank(embedder, ear, labels, offset)
        level = ear.level_db(embedder.manifest.window.rate_hz)
        return {"ranking": as_json(ranked), "heard_s": ear.heard_s, "level_db": level, "milliseconds": milliseconds}

    def stop(ear: Ear) -> dict[str, float]:
        """Forget what this session heard; a piece that comes later begins anew."""
        heard_s = ear.heard_s
        ear.clear()
        return {"heard_s": heard_s}

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
            box = add_labels(models, bundle)
        with gr.Column(scale=1, min_width=320, elem_classes="answers"):
            bars = gr.HTML(NOTHING_YET, elem_id="live", elem_classes="bare")
    ear = gr.State(Ear())  # each session has its own copy
    clock = gr.Timer(EVERY_S, active=False)
    words = [box.labels, box.offset, bundle, ear]
    react(sound.start_recording, begin, [ear], [bars, clock], blank=(gr.Timer(active=False),))
    react(sound.stop_recording, lambda: gr.Timer(active=False), [], [clock])
    sound.stream(
        hear, [sound, bundle, ear], None, stream_every=EVERY_S, show_progress="hidden", **PRIVATE, **MICROPHONES
    )
    react(clock.tick, show, words, [bars], blank=(), trigger_mode="once")
    add_action(listen, [sound, *words], "listen")
    add_action(stop, [ear], "stop")


def _listen(embedder: Embedder, ear: Ear, piece: str | None) -> None:
    """Add what a file holds. Its header may claim another length than it has: the browser writes it as it records."""
    if piece is None:
        raise AudioError("piece: got none; send one audio file")
    wave, rate_hz = read_audio(piece, MAX_PIECE_S, warn=lambda line: None)  # more of it comes
    ear.listen(wave, rate_hz, embedder.manifest.window)


def _rank(embedder: Embedder, ear: Ear, labels: str, offset: float) -> tuple[Ranked, float]:
    """Labels for the last window, and how long that took in milliseconds."""
    start = time.perf_counter()
    rows = embedder.run(cut_windows(ear.wave, embedder.manifest.window)[:1])
    ranked = rank(embedder, rows, read_labels(labels), offset)
    return ranked, 1000 * (time.perf_counter() - start)


def _facts(embedder: Embedder, ear: Ear, level_db: float, milliseconds: float) -> str:
    window = embedder.manifest.window
    heard = min(len(ear.wave), window.samples) / window.rate_hz
    width = max(0.0, min(1.0, (level_db + 80) / 80))
    meter = f'<i class="meter" role="meter" aria-label="level" aria-valuenow="{level_db:.0f}" aria-valuemin="-120"'
    meter += f' aria-valuemax="0"><i style="width:{100 * width:.0f}%"></i></i>'
    return facts(
        f"level {meter} <b>{level_db:.0f} dB</b>",
        f"the last <b>{heard:.1f} s</b> of {ear.heard_s:.1f} s",
        f"answered in <b>{milliseconds:.0f} ms</b>",
        f"{embedder.backend}, {embedder.precision}",
    )
