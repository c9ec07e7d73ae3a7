"""The classes of ESC-50 and FSC22, by which sounds can be named without a list of one's own."""

from collections.abc import Mapping

from serving.zeroshot.label_text import words_of_label

# ESC-50 (Piczak 2015), in the order of its targets, 0 to 49.
ESC50 = (
    "dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow", "rain", "sea_waves",
    "crackling_fire", "crickets", "chirping_birds", "water_drops", "wind", "pouring_water", "toilet_flush",
    "thunderstorm", "crying_baby", "sneezing", "clapping", "breathing", "coughing", "footsteps", "laughing",
    "brushing_teeth", "snoring", "drinking_sipping", "door_wood_knock", "mouse_click", "keyboard_typing",
    "door_wood_creaks", "can_opening", "washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick",
    "glass_breaking", "helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane",
    "fireworks", "hand_saw",
)  # fmt: skip
# FSC22 (Bandara 2023), in the order of its class ids, 1 to 27, spelled as in the study that the splits come from.
FSC22 = (
    "fire", "rain", "thunderstorm", "water_drops", "wind", "silence", "tree_falling", "helicopter", "vehicle_engine",
    "axe", "chainsaw", "generator", "handsaw", "firework", "gunshot", "woodchop", "whistling", "speaking",
    "footsteps", "clapping", "insect", "frog", "bird_chirping", "wing_flapping", "lion", "wolf_howl", "squirrel",
)  # fmt: skip

LABEL_LISTS: Mapping[str, tuple[str, ...]] = {"ESC-50": ESC50, "FSC22": FSC22}


def list_in_words(names: tuple[str, ...]) -> list[str]:
    """The classes as they would be typed: with spaces for underscores."""
    return [words_of_label(name) for name in names]
