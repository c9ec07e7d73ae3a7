"""The attributes of the acoustic vocabulary's sounds, by the names of training/data/attributes.toml.

Each follows from the properties that a sound was made from. They were written down before any score was seen.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.class_attributes import attribute_rows, have_half
from training.synthesis.vocabulary import Qualities

# In tenths. Of two values of one attribute the larger counts.
KIND = {
    "noise": {"noisy": 10},
    "tone": {"tonal": 10, "gliding": 3, "voice": 4},
    "click": {"struck": 7, "noisy": 6, "short": 10},
    "motor": {"machine": 8, "motor": 8, "tonal": 4, "noisy": 6, "continuous": 10},
}
PITCH = {
    "low": {"low": 9, "middle": 4},
    "middle": {"low": 2, "middle": 9, "high": 3},
    "high": {"middle": 3, "high": 9},
}
COURSE = {
    "continuous": {"continuous": 10, "steady": 9},
    "swelling": {"continuous": 9, "swelling": 10},
    "single": {"short": 8, "sudden": 8, "pauses": 10},
    "regular": {"short": 8, "repeated": 10, "regular": 10, "sudden": 6, "pauses": 6},
    "irregular": {"short": 8, "repeated": 8, "irregular": 9, "sudden": 6, "pauses": 6},
}
LEVEL = {"quiet": {"loud": 2}, "": {"loud": 5}, "loud": {"loud": 9}}
HIGH_NOISE = {"hissing": 9}
ROUGH_TONE = {"rough": 8}
TABLES = (*KIND.values(), *PITCH.values(), *COURSE.values(), *LEVEL.values(), HIGH_NOISE, ROUGH_TONE)
NAMES = frozenset(name for table in TABLES for name in table)


def attributes_of(sound: Qualities) -> dict[str, int]:
    """The attributes of one sound, in tenths."""
    tables = [KIND[sound.kind], PITCH[sound.pitch], COURSE[sound.course], LEVEL[sound.level]]
    if sound.kind == "noise" and sound.pitch == "high":
        tables.append(HIGH_NOISE)
    if sound.kind == "tone" and sound.rough:
        tables.append(ROUGH_TONE)
    return {name: max(table.get(name, 0) for table in tables) for table in tables for name in table}


def sound_attributes(sounds: Sequence[Qualities], columns: Sequence[str]) -> NDArray[np.float32] | None:
    """Attributes of sounds, 0 to 1: [n_sounds, n_attributes] float32.

    columns  names of a data set's attributes
    returns  None if these have fewer than half of NAMES: too little is then known of a sound
    """
    return attribute_rows(map(attributes_of, sounds), columns) if have_half(columns, NAMES) else None
