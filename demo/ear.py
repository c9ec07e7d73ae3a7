"""What a microphone has sent: the last seconds of sound, and a log of what was heard."""

import csv
import io

import numpy as np
import soxr
from numpy.typing import NDArray

from demo.heard import NOTHING, Heard, heard
from demo.smoothing import windows_together
from serving.audio import LOWEST_DBFS, Window, level_dbfs
from serving.files.csv_cells import safe_cell

MAX_LOGGED = 5_000  # stretches; the oldest are dropped


def kept_samples(window: Window) -> int:
    """The samples of the windows that are averaged for an answer."""
    return window.samples + (windows_together(window) - 1) * window.hop_samples


class Ear:
    """The last windows of sound from a microphone that sends pieces.

    wave       [n_samples] float32 mono at the model's rate, at most as many windows as are averaged for an answer
    heard_s    duration of all pieces, in seconds
    fault      why the last piece could not be read; "" if it could
    listening  whether the microphone is on
    ended      whether it was turned off and the page does not show it yet
    answer     the last answer, in short; "" if there is none
    log        what was heard since the start
    last_piece  (file, samples, rate) of the last piece
    """

    def __init__(self) -> None:
        self.listening = False
        self.clear()

    def clear(self) -> None:
        """Delete the sound and the log, and start again."""
        self.wave = np.zeros(0, np.float32)
        self.heard_s = 0.0
        self.fault = ""
        self.ended = False
        self.answer = ""
        self.log: list[Heard] = []
        self.last_piece: tuple[str, NDArray[np.float32], int] | None = None
        self._logged_s = 0.0
        self._rates = (0, 0)
        self._resampler: soxr.ResampleStream | None = None

    def listen(self, piece: NDArray[np.float32], rate_hz: int, window: Window) -> None:
        """Append a piece [n_samples] float32 mono."""
        if self._resampler is None or self._rates != (rate_hz, window.rate_hz):
            # One resampler for all pieces: with one for each piece, every border would click.
            self._resampler = soxr.ResampleStream(rate_hz, window.rate_hz, 1, dtype="float32", quality="HQ")
            self._rates = (rate_hz, window.rate_hz)
        self.heard_s += len(piece) / rate_hz
        self.wave = np.concatenate([self.wave, self._resampler.resample_chunk(piece)])[-kept_samples(window) :]

    def newest(self, window: Window) -> NDArray[np.float32]:
        """The samples that end with the newest one and fill whole windows; all of them if they fill none."""
        full = 1 + (len(self.wave) - window.samples) // window.hop_samples
        return self.wave if full < 1 else self.wave[-(window.samples + (full - 1) * window.hop_samples) :]

    def is_warm(self, window: Window) -> bool:
        """Whether there is enough sound for all windows that are averaged, without padding."""
        return len(self.wave) >= kept_samples(window)

    def level_dbfs(self, rate_hz: int) -> float:
        """Peak level of the last half second, see `serving.audio.level_dbfs`."""
        last = self.wave[-rate_hz // 2 :]
        return level_dbfs(last) if last.size else LOWEST_DBFS

    def note(self, label: str, probability: float) -> None:
        """Add an answer about the sound since the last one to the log. NOTHING ends the last stretch."""
        start, end = self._logged_s, self.heard_s
        self._logged_s = end
        if label == NOTHING or end <= start:
            return
        last = self.log[-1:]
        if last and last[0].label == label and last[0].end_s == start:
            self.log.pop()
            starts, ends = [last[0].start_s, start], [start, end]
            self.log += heard(starts, ends, [label, label], [last[0].probability, probability])
        else:
            self.log.append(Heard(label, start, end, probability))
        del self.log[:-MAX_LOGGED]

    def log_as_csv(self) -> str:
        """The log as CSV with a header: start_s, end_s, label, probability."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["start_s", "end_s", "label", "probability"])
        for each in self.log:
            times = (f"{each.start_s:.1f}", f"{each.end_s:.1f}")
            rows.writerow([*times, safe_cell(each.label), f"{each.probability:.3f}"])
        return text.getvalue()
