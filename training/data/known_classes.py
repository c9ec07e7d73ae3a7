"""The classes of ESC-50 and FSC22: their numbers, their names, and a one-line acoustic description of each.

A class's number is the data set's own: ESC-50's target (0 to 49) or FSC22's class id (1 to 27). The descriptions are in
classes.toml.
"""

import tomllib
from functools import cache
from pathlib import Path

from serving.label_text import words_of_label

_ESC50 = (
    "dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow", "rain", "sea_waves",
    "crackling_fire", "crickets", "chirping_birds", "water_drops", "wind", "pouring_water", "toilet_flush",
    "thunderstorm", "crying_baby", "sneezing", "clapping", "breathing", "coughing", "footsteps", "laughing",
    "brushing_teeth", "snoring", "drinking_sipping", "door_wood_knock", "mouse_click", "keyboard_typing",
    "door_wood_creaks", "can_opening", "washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick",
    "glass_breaking", "helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane",
    "fireworks", "hand_saw",
)  # fmt: skip
# Spelled as in the study.
_FSC22 = (
    "fire", "rain", "thunderstorm", "water_drops", "wind", "silence", "tree_falling", "helicopter", "vehicle_engine",
    "axe", "chainsaw", "generator", "handsaw", "firework", "gunshot", "woodchop", "whistling", "speaking",
    "footsteps", "clapping", "insect", "frog", "bird_chirping", "wing_flapping", "lion", "wolf_howl", "squirrel",
)  # fmt: skip

CLASS_NAMES: dict[str, dict[int, str]] = {"ESC-50": dict(enumerate(_ESC50)), "FSC22": dict(enumerate(_FSC22, start=1))}


@cache
def class_descriptions() -> dict[str, str]:
    """Descriptions by class name, in lower case with underscores."""
    return tomllib.loads(Path(__file__).with_name("classes.toml").read_text())


def describe_class(name: str) -> str:
    """A class's description; for an unknown class, its name with spaces for underscores."""
    words = words_of_label(name)
    return class_descriptions().get(words.lower().replace(" ", "_"), words)
