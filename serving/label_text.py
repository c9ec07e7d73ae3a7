"""Labels and class names: how they are compared, and how a list of them is typed as one text."""

import re
import unicodedata
from collections.abc import Iterable

from serving.errors import LabelError

SEPARATORS = ","


def plain(label: str) -> str:
    """A label as it is compared: "Sea_Waves " and "sea waves" are one, and so are "é" as one character and as two.

    Accents come as two characters (NFD) from macOS's folder names, and as one (NFC) from keyboards. Source: canonical
    caseless matching, The Unicode Standard, section 3.13, definition D145.
    """
    folded = unicodedata.normalize("NFD", label).casefold()
    return " ".join(unicodedata.normalize("NFC", folded).replace("_", " ").split())


def split_labels(text: str, known: Iterable[str] = (), separators: str = SEPARATORS, flag: str = "labels") -> list[str]:
    """Split a text at its commas; empty parts are left out.

    known       names of classes: such a name is one label, also where it has commas in it, and comes back as it stands
                here. The longest name wins
    separators  the characters that separate labels
    flag        what the text was given as, for messages
    errors      LabelError: a quote that is not closed, or followed by something else than a separator

    A label in double quotes, as in CSV, is taken as it is: `"Dog, barking",rain` gives `Dog, barking` and `rain`.
    Inside, "" stands for a quote.
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
    """A label without the quotes that it stands in, and without surrounding blanks; any other text as it is."""
    quoted = re.fullmatch(r'"((?:[^"]|"")*)"', text.strip())
    return (quoted[1].replace('""', '"') if quoted else text).strip()


def join_labels(labels: Iterable[str], separators: str = SEPARATORS) -> str:
    """What `split_labels` splits into the same labels; those with a comma in them stand in quotes."""
    return ", ".join(quote(label, separators) for label in labels)


def quote(label: str, separators: str = SEPARATORS) -> str:
    """The label in quotes where it would otherwise be taken for several, or for a quoted one."""
    needs = label.startswith('"') or any(character in label for character in separators)
    return '"' + label.replace('"', '""') + '"' if needs else label


def _key(name: str, separators: str) -> tuple[str, ...]:
    """A name as it is compared: how many blanks stand around its commas says nothing."""
    return tuple(plain(part) for part in re.split(f"[{re.escape(separators)}]", name))


def _spans(text: str, separators: str, flag: str) -> list[tuple[int, int]]:
    """Start and end of each part between the separators that stand outside quotes."""
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
