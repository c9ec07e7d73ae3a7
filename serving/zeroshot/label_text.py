"""The text form of labels: which spellings are the same label, and how a list of labels is written in one line."""

import re
import unicodedata
from collections.abc import Iterable

from serving.errors import LabelError

SEPARATORS = ","
MAX_LENGTH = 300  # characters of a label from a stranger; the text model reads no more than 256 tokens
MAX_WORDS = 50
JOINERS = "\u200c\u200d"  # within words of Persian and Hindi, and within emoji


def normalise_label(label: str) -> str:
    """The form in which labels are compared: without case, underscores and extra spaces, accents composed (NFC).

    "Sea_Waves " and "sea waves" are the same label. So are "é" as one character (NFC, from keyboards) and as two (NFD,
    from folder names on macOS). Source: canonical caseless matching, The Unicode Standard, section 3.13, D145.
    """
    folded = unicodedata.normalize("NFD", label).casefold()
    return " ".join(unicodedata.normalize("NFC", folded).replace("_", " ").split())


def words_of_label(label: str) -> str:
    """A label as a text encoder reads it: with spaces for underscores."""
    return label.strip().replace("_", " ")


def check_label_length(label: str) -> None:
    """Refuse a label that takes the text model long. LabelError: over MAX_LENGTH characters or MAX_WORDS words."""
    if len(label) > MAX_LENGTH or len(label.replace("_", " ").split(None, MAX_WORDS)) > MAX_WORDS:
        raise LabelError(
            f"labels: got one of {len(label)} characters that begins with {label[:40]!r}; wanted at most {MAX_LENGTH} "
            f"characters and {MAX_WORDS} words"
        )


def check_printable(label: str) -> None:
    """Refuse a label that would break a table or a terminal.

    errors   LabelError: a control character, a line break, or one that turns the direction of writing
    """
    if not all(map(is_printable, label)):
        raise LabelError(f"labels: got {label[:80]!r}; wanted printable text on one line, without control characters")


def is_printable(character: str) -> bool:
    """Whether a character may stand in a line of text: spaces of all kinds, and those that join others, may."""
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"


def split_labels(text: str, known: Iterable[str] = (), separators: str = SEPARATORS, flag: str = "labels") -> list[str]:
    """Split a text at its commas, and drop empty parts.

    known       class names. A class name is one label even if it contains commas, and is returned as spelt here; the
                longest match wins
    separators  the characters that separate labels
    flag        name of the option or parameter, for error messages
    errors      LabelError: a quote is not closed, or is followed by something else than a separator

    A label may be quoted as in CSV: `"Dog, barking",rain` gives `Dog, barking` and `rain`; "" is a quote inside quotes.
    """
    names = {_key(name, separators): name for name in known}
    longest = max(map(len, names), default=1)
    spans = _spans(text, separators, flag)
    labels, i = [], 0
    while i < len(spans):
        for j in range(min(len(spans), i + longest), i, -1):
            whole = text[spans[i][0] : spans[j - 1][1]].strip()
            name = unquote(whole) if j == i + 1 else names.get(_key(whole, separators))
            if name is not None:
                labels.append(name)
                i = j
                break
    return [label for label in labels if label]


def unquote(text: str) -> str:
    """A quoted label without its quotes; any other text without surrounding spaces."""
    quoted = re.fullmatch(r'"((?:[^"]|"")*)"', text.strip())
    return (quoted[1].replace('""', '"') if quoted else text).strip()


def join_labels(labels: Iterable[str], separators: str = SEPARATORS) -> str:
    """The inverse of `split_labels`: labels that contain a comma are quoted."""
    return ", ".join(quote(label, separators) for label in labels)


def quote(label: str, separators: str = SEPARATORS) -> str:
    """The label, quoted if `split_labels` would otherwise split or unquote it."""
    needs = label.startswith('"') or any(character in label for character in separators)
    return '"' + label.replace('"', '""') + '"' if needs else label


def _key(name: str, separators: str) -> tuple[str, ...]:
    """The comparable form of a name's comma-separated parts; spaces around the commas are ignored."""
    return tuple(normalise_label(part) for part in re.split(f"[{re.escape(separators)}]", name))


def _spans(text: str, separators: str, flag: str) -> list[tuple[int, int]]:
    """Start and end of each part between separators; separators inside quotes do not count."""
    apart = re.escape(separators)
    part = re.compile(rf'\s*"(?:[^"]|"")*"\s*(?=[{apart}]|\Z)|(?!\s*")[^{apart}]*')
    spans, start = [], 0
    while True:
        found = part.match(text, start)
        if found is None:
            got = text[start:].strip()
            raise LabelError(
                f'{flag}: got {got}; wanted the label between two double quotes ("Dog, barking"), a quote inside it '
                'doubled ("")'
            )
        spans.append(found.span())
        if found.end() == len(text):
            return spans
        start = found.end() + 1
