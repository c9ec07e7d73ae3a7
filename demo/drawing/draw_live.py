"""Draw the states of the tab "Live", and its log."""

import html

from demo.drawing.html_elements import escape_name, fact_line, hint_card
from demo.ear import Ear
from demo.heard import clock
from serving.embedder import Embedder

MAX_SHOWN = 30  # the newest stretches of the log
NOTHING_YET = hint_card(
    "Turn on the microphone: the page names the last seconds of sound twice a second.<br>No sound is stored."
)
WAITING = (
    '<div class="card hint waiting" data-spoken="Waiting for the microphone"><p>Waiting for the microphone …</p></div>'
)


def draw_no_microphone(reason: str) -> str:
    """The card for a microphone that cannot be used. reason: from the browser."""
    text = html.escape(reason, quote=False)
    return f'<div class="card hint refused" role="alert"><p><b>No microphone.</b><br>{text}</p></div>'


def draw_warming_up(ear: Ear, needed_s: float) -> str:
    """The card until there is enough sound for an answer. needed_s: of sound, in seconds."""
    share = min(ear.heard_s / needed_s, 1)
    return (
        '<div class="card hint warming" data-spoken="Warming up"><p><b>Warming up</b><br>'
        f"{min(ear.heard_s, needed_s):.1f} of the first {needed_s:.1f} s are heard.</p>"
        f'<span class="track"><i style="width:{100 * share:.0f}%"></i></span></div>'
    )


def draw_stopped(ear: Ear) -> str:
    """The card after the microphone was turned off."""
    last = f"<br>The last answer was: {escape_name(ear.answer)}." if ear.answer else ""
    spoken = html.escape(f"Stopped. {ear.answer}".strip())
    return (
        f'<div class="card hint stopped" data-spoken="{spoken}"><p><b>Stopped</b> after {ear.heard_s:.0f} s.{last}'
        "<br>Press Record to start again; that clears the log.</p></div>"
    )


def draw_log(ear: Ear) -> str:
    """What was heard, the newest first, as HTML; "" if there is nothing."""
    if not ear.log:
        return ""
    rows = "".join(
        f"<li><time>{clock(each.start_s)}-{clock(each.end_s)}</time> <b>{escape_name(each.label)}</b> "
        f"<span>{each.probability:.0%}</span></li>"
        for each in reversed(ear.log[-MAX_SHOWN:])
    )
    rest = len(ear.log) - MAX_SHOWN
    more = f'<p class="reason">and {rest} before; the CSV file has all of them</p>' if rest > 0 else ""
    return f'<div class="card log"><h2>Heard so far</h2><ol>{rows}</ol>{more}</div>'


def live_facts(embedder: Embedder, ear: Ear, level: float, milliseconds: float) -> str:
    """The line of facts below a live answer. level: dBFS."""
    window = embedder.manifest.window
    ranked_s = len(ear.newest(window)) / window.rate_hz
    width = max(0.0, min(1.0, (level + 80) / 80))
    meter = f'<i class="meter" role="meter" aria-label="level" aria-valuenow="{level:.0f}" aria-valuemin="-120"'
    meter += f' aria-valuemax="0"><i style="width:{100 * width:.0f}%"></i></i>'
    return fact_line(
        f"level {meter} <b>{level:.0f} dBFS</b>",
        f"the last <b>{ranked_s:.1f} s</b> of {ear.heard_s:.1f} s",
        f"computed in <b>{milliseconds:.0f} ms</b>",
        f"{embedder.backend}, {embedder.precision}",
    )
