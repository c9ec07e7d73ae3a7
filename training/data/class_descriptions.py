"""The one-line acoustic descriptions of the known classes, from classes.toml."""

import tomllib
from functools import cache
from pathlib import Path


@cache
def class_descriptions() -> dict[str, str]:
    """Descriptions by class name, in small letters with underscores."""
    return tomllib.loads(Path(__file__).with_name("classes.toml").read_text())


def describe_class(name: str) -> str:
    """A class's description; for an unknown class, its name with spaces for underscores."""
    words = name.strip().replace("_", " ")
    return class_descriptions().get(words.lower().replace(" ", "_"), words)
