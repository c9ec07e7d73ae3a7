"""The classes of ESC-50 and FSC22: their numbers, their names, and a one-line acoustic description of each.

A class's number is the data set's own: ESC-50's target (0 to 49) or FSC22's class id (1 to 27). The descriptions are in
classes.toml.
"""

import tomllib
from functools import cache
from pathlib import Path

from serving.zeroshot.label_lists import ESC50, FSC22
from serving.zeroshot.label_text import words_of_label

CLASS_NAMES: dict[str, dict[int, str]] = {"ESC-50": dict(enumerate(ESC50)), "FSC22": dict(enumerate(FSC22, start=1))}


@cache
def class_descriptions() -> dict[str, str]:
    """Descriptions by class name, in lower case with underscores."""
    return tomllib.loads(Path(__file__).with_name("classes.toml").read_text())


def describe_class(name: str) -> str:
    """A class's description; for an unknown class, its name with spaces for underscores."""
    words = words_of_label(name)
    return class_descriptions().get(words.lower().replace(" ", "_"), words)
