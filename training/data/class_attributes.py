"""Attributes of classes: what is heard of a class, and what makes the sound, as numbers that were written down.

The attributes of ESC-50's and FSC22's classes are in attributes.toml, and those of other everyday sounds in
sounds.toml. A user writes a file of the same form for others:

    dog = {animal = 10, voice = 10, short = 9, repeated = 6, sudden = 9}

Each number says in tenths how much an attribute applies; an attribute that is left out does not apply at all. The names
of the attributes are free, but classes are compared by them, so each must mean the same for all classes. Source of the
idea: Lampert 2009 (CVPR, attributes of animals).
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import UsageError
from serving.zeroshot.label_text import join_labels, normalise_label

Attributes = dict[str, dict[str, int]]  # class name -> attribute -> tenths
LARGEST = 10
BENCHMARK_CLASSES = Path(__file__).with_name("attributes.toml")  # of ESC-50 and FSC22
EVERYDAY_SOUNDS = Path(__file__).with_name("sounds.toml")


def read_attributes(path: Path) -> Attributes:
    """Read a file of attributes; class names are normalised.

    errors   UsageError: the file cannot be read, has something else than classes with numbers from 0 to 10, or a class
             twice
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"--attributes: {path} cannot be read ({reason}); wanted lines like: dog = {{voice = 10}}"
        ) from error
    for name, attributes in table.items():
        if not isinstance(attributes, dict) or not attributes:
            raise UsageError(
                f"--attributes: {path}: {name} has no attributes; wanted a line like: {name} = {{voice = 10}}"
            )
        for attribute, tenths in attributes.items():
            if type(tenths) is not int or not 0 <= tenths <= LARGEST:
                raise UsageError(
                    f"--attributes: {path}: {name}: {attribute} is {tenths!r}; wanted a whole number, 0 to 10"
                )
    spellings: dict[str, str] = {}
    for name in table:
        first = spellings.setdefault(normalise_label(name), name)
        if first != name:
            raise UsageError(f"--attributes: {path}: {join_labels([first, name])} are the same class; give it once")
    return {key: table[name] for key, name in spellings.items()}


def built_in_attributes(benchmark_classes: bool = True) -> Attributes:
    """Those of everyday sounds, and of the classes of ESC-50 and FSC22 if these are wanted."""
    return (read_attributes(BENCHMARK_CLASSES) if benchmark_classes else {}) | read_attributes(EVERYDAY_SOUNDS)


def choose_attributes(classes: Sequence[str], given: str | None) -> Attributes:
    """The attributes of a data set's classes.

    given    None: the built-in ones if they have all the classes, otherwise none; "none"; or a file's path
    errors   UsageError: the file cannot be read, or lacks classes
    """
    if given == "none":
        return {}
    known = read_attributes(Path(given)) if given else built_in_attributes()
    missing = [name for name in classes if normalise_label(name) not in known]
    if missing and given:
        raise UsageError(f"--attributes: {given} lacks {join_labels(missing)}; wanted a line for each class")
    return {} if missing else {name: known[normalise_label(name)] for name in classes}


def attributes_of_one(attributes: Attributes) -> list[str]:
    """Attributes that only one class has, as "brid (rooster)": often a typing mistake."""
    owners: dict[str, list[str]] = {}
    for name, own in attributes.items():
        for attribute, tenths in own.items():
            if tenths:
                owners.setdefault(attribute, []).append(name)
    return [f"{attribute} ({names[0]})" for attribute, names in sorted(owners.items()) if len(names) == 1]


def attribute_columns(described: Iterable[Mapping[str, int]]) -> list[str]:
    """The names of all attributes of classes or sounds, in the order of the columns of `attribute_matrix`."""
    return sorted({attribute for own in described for attribute in own})


def attribute_matrix(classes: Sequence[str], attributes: Mapping[str, Mapping[str, int]]) -> NDArray[np.float32]:
    """The attributes of these classes, 0 to 1: [C, n_attributes] float32, columns in the order of their names."""
    described = [attributes[name] for name in classes]
    return attribute_rows(described, attribute_columns(described))


def attribute_rows(described: Iterable[Mapping[str, int]], columns: Sequence[str]) -> NDArray[np.float32]:
    """The attributes of classes or sounds, in tenths, as rows of numbers from 0 to 1: [n, n_columns] float32."""
    return np.array([[row.get(column, 0) / LARGEST for column in columns] for row in described], np.float32)


def have_half(columns: Iterable[str], names: Iterable[str]) -> bool:
    """Whether a data set's attributes have at least half of some names: otherwise too little is known by these."""
    wanted = set(names)
    return 2 * len(wanted.intersection(columns)) >= len(wanted)
