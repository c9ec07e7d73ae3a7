"""HTML elements that several tabs use."""

import html
from collections.abc import Sequence
from pathlib import Path

# For the js_on_load of a gr.HTML component: a status line for screen readers says what the newest card says in short.
SPEAK_SCRIPT = Path(__file__).with_name("speak.js").read_text()
SAVE_SCRIPT = Path(__file__).with_name("save_text.js").read_text()  # (name, text) => saves a file


def escape_name(name: str) -> str:
    """Escape a class name or file name for HTML, with spaces instead of underscores."""
    return html.escape(name.replace("_", " "))


def hint_card(text: str) -> str:
    """A card with a hint in place of a result. text: HTML."""
    return f'<div class="card hint"><p>{text}</p></div>'


def error_card(message: str) -> str:
    """A card with an error message in place of a result."""
    text = html.escape(message, quote=False)
    return f'<div class="card hint refused" role="alert"><p><b>No result.</b><br>{text}</p></div>'


def partly_read_card(warnings: Sequence[str]) -> str:
    """A card that says what of a recording could not be read; "" if all of it was read."""
    if not warnings:
        return ""
    text = "<br>".join(html.escape(line, quote=False) for line in warnings)
    return f'<div class="card refused" role="alert"><p><b>Only a part of it could be read.</b><br>{text}</p></div>'


def fact_line(*parts: str) -> str:
    """A line of short facts. parts: HTML."""
    return f'<p class="facts">{"".join(f"<span>{part}</span>" for part in parts)}</p>'


def colour(number: int, count: int) -> str:
    """The colour of class `number` of `count`, for a light or dark page. Neighbours differ in hue and lightness."""
    hue = (25 + 360 * number / max(count, 1)) % 360
    return f"hsl({hue:.0f} {70 if number % 2 else 55}% {46 if number % 2 else 60}%)"
