"""Draw the tab "Teach": the sound that is asked about, the keys of the answers, and the curve."""

import html

from demo.drawing.html_elements import error_card, escape_name, fact_line, hint_card
from demo.teach_session import TeachSession
from serving.errors import AudioError

NOTHING_YET = hint_card(
    "Type two to nine labels and press <b>Start</b>.<br>The sounds that would teach most are played here, one by one."
)
MAX_NOTES = 12
WIDTH, HEIGHT = 320, 120  # of the curve, in units of its picture


def draw_question(session: TeachSession, milliseconds: float | None = None) -> str:
    """The current sound with its player, the answers, and the curve. milliseconds: for the last answer."""
    parts = f"{_notes(session)}{_sound(session)}{_curve(session)}{_rivals(session)}{_facts(session, milliseconds)}"
    return f'<div class="card teach" data-step="{session.name} {len(session.answers)}">{parts}</div>'


def _notes(session: TeachSession) -> str:
    """What is to know of uploads and labels, until the first answer."""
    if not session.notes or session.answers:
        return ""
    left = len(session.notes) - MAX_NOTES
    shown = [*session.notes[:MAX_NOTES], *([f"and {left} more"] if left > 0 else [])]
    lines = "<br>".join(html.escape(line, quote=False) for line in shown)
    return f'<div class="card refused" role="alert"><p><b>Before you begin.</b><br>{lines}</p></div>'


def _rivals(session: TeachSession) -> str:
    """The classes of the bundle that take many of the sounds of a label."""
    lines = [rival.warning(label) for label, rival in session.rivals.items()]
    return "".join(f'<p class="rival">{escape_name(line)}.</p>' for line in lines)


def _sound(session: TeachSession) -> str:
    row = session.current
    undo = _button("undo", "u", "undo") if session.answers else ""
    if row is None:
        done = "All sounds are answered."
        return f'<h2 data-spoken="{done}">{done}</h2><div class="answers-row">{undo}</div>'
    library = session.library
    place = f"{escape_name(library.paths[row].rpartition('/')[2])}, {library.starts_s[row]:.1f} s"
    try:
        player = f'<audio autoplay controls aria-label="{place}" src="{library.preview(row)}"></audio>'
    except AudioError as error:
        player = error_card(str(error))
    label, share = session.guess[0]
    name = escape_name(label)
    keys = [
        _button("yes", "y", f"yes, {name}"),
        _button("no", "n", "none of these"),
        *(_button(str(i), str(i + 1), escape_name(each)) for i, each in enumerate(session.labels)),
        undo,
    ]
    asked = f'<h2 data-spoken="Is this {name}?">Is this {name}? <span class="share">{100 * share:.0f} %</span></h2>'
    return f'{asked}<p class="place">{place}</p>{player}<div class="answers-row">{"".join(keys)}</div>'


def _button(answer: str, key: str, text: str) -> str:
    return f'<button type="button" data-answer="{answer}" data-key="{key}"><kbd>{key}</kbd> {text}</button>'


def _curve(session: TeachSession) -> str:
    """The share of answered sounds that are named right when they are left out, by the number of answers."""
    if not session.curve:
        return ""
    step = WIDTH / max(1, len(session.curve) - 1)
    points = " ".join(f"{i * step:.1f},{HEIGHT * (1 - share):.1f}" for i, share in enumerate(session.curve))
    last = session.curve[-1]
    title = f"{100 * last:.0f} % of the answered sounds are named right when they are left out"
    return (
        f'<p class="curve-title">{title}</p>'
        f'<svg class="curve" viewBox="-4 -4 {WIDTH + 8} {HEIGHT + 8}" role="img" aria-label="{html.escape(title)}">'
        f'<line x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}"/><polyline points="{points}"/>'
        f'<circle cx="{(len(session.curve) - 1) * step:.1f}" cy="{HEIGHT * (1 - last):.1f}" r="4"/></svg>'
    )


def _facts(session: TeachSession, milliseconds: float | None) -> str:
    counts = [sum(label == i for _, label in session.answers) for i in range(len(session.labels))]
    named = [f"{escape_name(label)} <b>{count}</b>" for label, count in zip(session.labels, counts, strict=True)]
    taught = [] if milliseconds is None else [f"taught again in <b>{milliseconds:.1f} ms</b>"]
    return fact_line(f"<b>{len(session.answers)}</b> of {len(session.library)} answered", *named, *taught)
