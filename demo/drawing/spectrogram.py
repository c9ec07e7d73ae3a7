"""Draw a clip's waveform and log-mel spectrogram with axes, as HTML in the text colours of the page.

The curve and the pixels scale with the page. The text keeps its size, so it is readable on a phone.
"""

import base64
import io
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.heard import clock
from serving.audio import Window

MAX_COLUMNS = 2_000  # of pixels in the log-mel and of points in the waveform; more than a screen shows
MAX_NAMED_WINDOWS = 12  # more names do not fit
MAX_LONG_NAMES = 5  # more are numbers without the word "window"
MINUTES_FROM_S = 60  # the time axis of a longer sound is in minutes
MIN_SPAN = 2.0  # of the colour scale, so that the noise of a silent clip does not look loud
TICK_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)
TICKS_HZ = (250, 500, 1_000, 2_000, 4_000, 7_500)


def draw_spectrogram(
    wave: NDArray[np.float32], log_mel: NDArray[np.float32], window: Window, front_end: dict[str, Any]
) -> str:
    """Draw the waveform and the network's input on one time axis in seconds.

    wave       [n_samples]                 float32 mono at window.rate_hz
    log_mel    [n_windows, frames, bands]  float32, ln(mel + log_offset), from Embedder.log_mel
    front_end  the manifest's: hop_s, low_hz, high_hz, log_offset
    returns    HTML; zero padding and a remainder outside all windows are hatched
    """
    n_windows = len(log_mel)
    clip_s = len(wave) / window.rate_hz
    window_s = log_mel.shape[1] * float(front_end["hop_s"])
    seen_s = n_windows * window_s
    total_s = max(clip_s, seen_s)
    hatches = [(start, end) for start, end in [(clip_s, seen_s), (seen_s, clip_s)] if end - start > 0.005 * total_s]
    marks = _hatched(hatches, total_s) + _edges(n_windows, window_s, total_s) + '<i class="playhead"></i>'
    peak = float(np.abs(wave).max())
    low = math.log(float(front_end["log_offset"]))
    high = max(float(log_mel.max()), low + MIN_SPAN)
    image = _png(log_mel.reshape(-1, log_mel.shape[2]), low, high)
    amplitudes = [(0.0, _signed(-peak)), (0.5, "0"), (1.0, _signed(peak))] if peak else [(0.5, "0")]
    label = f"waveform and log-mel of {clip_s:.2f} seconds of sound"
    return (
        f'<figure class="picture" data-seconds="{total_s}" role="img" aria-label="{label}">'
        + (_window_names(n_windows, window_s, total_s) if 1 < n_windows <= MAX_NAMED_WINDOWS else "")
        + f'<div class="axis">{_heights(amplitudes)}</div>'
        + f'<div class="plot wave">{_outline(wave, peak, clip_s / total_s)}{marks}</div>'
        + f'<div class="axis"><b>Hz</b>{_heights(_frequencies(front_end, log_mel.shape[2]))}</div>'
        + f'<div class="plot mel"><img alt="" src="{image}" style="width:{_percent(seen_s / total_s)}">{marks}</div>'
        + f'<div class="time">{_times(total_s)}</div>'
        + f"<figcaption>{_caption(n_windows, window_s, clip_s < seen_s, bool(hatches))}{_key(low, high)}</figcaption>"
        + "</figure>"
    )


@cache
def _colours() -> NDArray[np.uint8]:
    """The colour map: [256, 3]."""
    from matplotlib import colormaps  # its import would delay the first sight of the page

    return np.round(255 * colormaps["magma"](np.arange(256))[:, :3]).astype(np.uint8)


def _png(frames: NDArray[np.float32], low: float, high: float) -> str:
    """Encode log-mel [n_frames, bands] as a PNG data URL: low bands at the bottom, `low` black, `high` light."""
    group = math.ceil(len(frames) / MAX_COLUMNS)
    starts = np.arange(0, len(frames), group)
    columns = np.maximum.reduceat(frames, starts, axis=0)  # [n_columns, bands]; the maximum keeps a click visible
    shades = np.clip(255 * (columns - low) / (high - low), 0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(shades.T[::-1]))
    image.putpalette(_colours().tobytes())
    data = io.BytesIO()
    image.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _outline(wave: NDArray[np.float32], peak: float, width: float) -> str:
    """Draw the minimum and maximum sample of each column as a filled shape, scaled to the peak."""
    starts = np.unique(np.linspace(0, len(wave), min(len(wave), MAX_COLUMNS), endpoint=False).astype(int))
    scaled = wave / (peak or 1.0)
    top = np.maximum.reduceat(scaled, starts)
    bottom = np.minimum.reduceat(scaled, starts)
    across = 1000 * width * (np.arange(len(starts)) + 0.5) / len(starts)
    thin = 0.008  # draws silence as a line
    points = [*zip(across, top + thin, strict=True), *zip(across[::-1], bottom[::-1] - thin, strict=True)]
    path = " ".join(f"{x:.1f},{100 - 96 * y:.1f}" for x, y in points)
    return f'<svg viewBox="0 0 1000 200" preserveAspectRatio="none"><polygon points="{path}"/></svg>'


def _frequencies(front_end: dict[str, Any], bands: int) -> list[tuple[float, str]]:
    """Ticks of the mel axis: (height from 0 to 1, text). All bands have the same width in mel."""
    low, high = (_mel(float(front_end[name])) for name in ("low_hz", "high_hz"))
    width = (high - low) / (bands + 1)
    ticks = [((_mel(hz) - low - width / 2) / (width * bands), hz) for hz in TICKS_HZ]
    return [(min(height, 1.0), f"{hz / 1000:g}k" if hz >= 1000 else str(hz)) for height, hz in ticks if height < 1.05]


def _mel(hz: float) -> float:
    return 1127.0 * math.log1p(hz / 700.0)


def _heights(ticks: Iterable[tuple[float, str]]) -> str:
    # The top and bottom texts stay inside their plot, so that the texts of two plots do not overlap.
    names = {0.0: ' class="bottom"', 1.0: ' class="top"'}
    spans = [f'<span{names.get(height, "")} style="bottom:{_percent(height)}">{text}</span>' for height, text in ticks]
    return "".join(spans)


def _times(total_s: float) -> str:
    step = next((step for step in TICK_STEPS_S if total_s / step <= 8), 300)
    ticks = [i * step for i in range(int(total_s / step + 1e-6) + 1)]
    in_minutes = total_s >= MINUTES_FROM_S

    def name(tick: float) -> str:
        return clock(tick) if in_minutes else f"{tick:g}"

    spans = [f'<span style="left:{_percent(tick / total_s)}">{name(tick)}</span>' for tick in ticks]
    return "".join(spans) + f"<b>{'minutes' if in_minutes else 'seconds'}</b>"


def _hatched(hatches: Sequence[tuple[float, float]], total_s: float) -> str:
    return "".join(
        f'<i class="hatched" style="left:{_percent(start / total_s)};width:{_percent((end - start) / total_s)}"></i>'
        for start, end in hatches
    )


def _edges(n_windows: int, window_s: float, total_s: float) -> str:
    if n_windows > 4 * MAX_NAMED_WINDOWS:
        return ""
    lefts = [_percent(i * window_s / total_s) for i in range(1, n_windows)]
    return "".join(f'<i class="edge" style="left:{left}"></i>' for left in lefts)


def _window_names(n_windows: int, window_s: float, total_s: float) -> str:
    width = _percent(window_s / total_s)
    word = "<em>window </em>" if n_windows <= MAX_LONG_NAMES else ""
    names = [
        f'<span style="left:{_percent(i * window_s / total_s)};width:{width}">{word}{i + 1}</span>'
        for i in range(n_windows)
    ]
    return f'<div class="windows">{"".join(names)}</div>'


def _caption(n_windows: int, window_s: float, padded: bool, hatched: bool) -> str:
    seen = f"The network sees {n_windows} window{'s' if n_windows > 1 else ''} of {window_s:g} s."
    if not hatched:
        return f"<span>{seen}</span>"
    why = "silence added to fill the window" if padded else "remainder too short for another window"
    return f'<span>{seen} <i class="hatched"></i> {why}.</span>'


def _key(low: float, high: float) -> str:
    stops = ",".join("#" + bytes(_colours()[i]).hex() for i in range(0, 256, 51))
    bar = f'<i class="key" style="background:linear-gradient(90deg,{stops})"></i>'
    return f"<span>log-mel {_signed(low)} {bar} {_signed(high)}</span>"


def _signed(value: float) -> str:
    return f"{value:.2g}".replace("-", "\N{MINUS SIGN}")


def _percent(share: float) -> str:
    return f"{100 * share:.3f}%"
