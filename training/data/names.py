"""Class names of ESC-50 and FSC22 by their numbers: ESC-50's targets 0 to 49, FSC22's class ids 1 to 27."""

_ESC50 = (
    "dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow", "rain", "sea_waves",
    "crackling_fire", "crickets", "chirping_birds", "water_drops", "wind", "pouring_water", "toilet_flush",
    "thunderstorm", "crying_baby", "sneezing", "clapping", "breathing", "coughing", "footsteps", "laughing",
    "brushing_teeth", "snoring", "drinking_sipping", "door_wood_knock", "mouse_click", "keyboard_typing",
    "door_wood_creaks", "can_opening", "washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick",
    "glass_breaking", "helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane",
    "fireworks", "hand_saw",
)  # fmt: skip
# As the study spells them.
_FSC22 = (
    "fire", "rain", "thunderstorm", "water_drops", "wind", "silence", "tree_falling", "helicopter", "vehicle_engine",
    "axe", "chainsaw", "generator", "handsaw", "firework", "gunshot", "woodchop", "whistling", "speaking",
    "footsteps", "clapping", "insect", "frog", "bird_chirping", "wing_flapping", "lion", "wolf_howl", "squirrel",
)  # fmt: skip

CLASS_NAMES: dict[str, dict[int, str]] = {"ESC-50": dict(enumerate(_ESC50)), "FSC22": dict(enumerate(_FSC22, start=1))}
