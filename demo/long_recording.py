"""The long recording that one visitor is listening to: which one it is, and how far it has been read."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from demo.drawing.html_elements import fact_line, hint_card
from demo.embedded_recording import MAX_SECONDS, EmbeddedRecording
from demo.heard import clock

MAX_STATED_S = 1e6  # a header that states more is wrong
WAITING = hint_card(f"It is longer than {MAX_SECONDS // 60} minutes, so it is named while it is read.")
NO_PICTURE = f"A recording longer than {MAX_SECONDS // 60} minutes has no spectrogram. Click the time line to play it."


@dataclass(frozen=True)
class Words:
    """What to rank: labels, favour and descriptions, as they are typed."""

    labels: str
    favour: float
    descriptions: str


@dataclass(frozen=True)
class Job:
    """A long recording that is to be read. number: of the visitor's sounds."""

    number: int
    path: str
    bundle: str
    overlap: str


class Visitor:
    """What one visitor has chosen last. A job whose number is older ends.

    number  of the sounds that the visitor has chosen
    words   that the visitor has typed last; a recording that is being read is ranked by them
    """

    def __init__(self) -> None:
        self.number = 0
        self.words = Words("", 0.0, "")
        self._job: Job | None = None
        self._plain = False

    def choose(self, words: Words) -> None:
        """Count a new sound, or none; what is being read is not wanted any more."""
        self.number += 1
        self.words = words
        self._job = None

    def put(self, path: str, bundle: str, overlap: str) -> None:
        """Leave a job for the sound that was chosen last."""
        self._job = Job(self.number, path, bundle, overlap)

    def player(self, plain: bool) -> Any:
        """The change of the player. A plain one draws no waveform; for one, the browser decodes the whole file."""
        if plain == self._plain:
            return gr.skip()
        self._plain = plain
        return gr.Audio(waveform_options=gr.WaveformOptions(show_recording_waveform=not plain))

    def take(self) -> Job | None:
        """The job, once."""
        job, self._job = self._job, None
        return job


def stated_s(seconds: float | None) -> float:
    """A file's stated duration; 0: it states none, or nonsense."""
    return seconds if seconds and 0 < seconds <= MAX_STATED_S else 0.0


def draw_progress(embedded: EmbeddedRecording, stated: float | None) -> str:
    """Say how far a recording has been read, and how fast, as HTML.

    stated   its duration in seconds; 0: not known; None: all of it has been read
    """
    speed = embedded.seconds / max(embedded.milliseconds["read and model"] / 1000, 1e-9)
    of = f" of {clock(stated)}" if stated else ""
    facts = fact_line(f"read <b>{clock(embedded.seconds)}</b>{of}", f"<b>{speed:.0f}</b> times as fast as it plays")
    note = NO_PICTURE if stated is None else "Reading. What is heard so far can be played and downloaded."
    return f'<div class="card progress"><p class="reason">{note}</p>{facts}</div>'
