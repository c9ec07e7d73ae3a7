"""Lists of labels to start from: a bundle's classes and those of known data sets."""

from demo.typed_labels import read_labels, write_labels
from serving.embedder import Embedder
from serving.label_text import normalise_label

OWN = "the bundle's classes"

# Class names in the order of their numbers in the data set, as they would be typed.
ESC50 = (
    "dog, rooster, pig, cow, frog, cat, hen, insects, sheep, crow, rain, sea waves, crackling fire, crickets, "
    "chirping birds, water drops, wind, pouring water, toilet flush, thunderstorm, crying baby, sneezing, clapping, "
    "breathing, coughing, footsteps, laughing, brushing teeth, snoring, drinking sipping, door wood knock, "
    "mouse click, keyboard typing, door wood creaks, can opening, washing machine, vacuum cleaner, "
    "clock alarm, clock tick, glass breaking, helicopter, chainsaw, siren, car horn, engine, train, church bells, "
    "airplane, fireworks, hand saw"
)
FSC22 = (
    "fire, rain, thunderstorm, water drops, wind, silence, tree falling, helicopter, vehicle engine, axe, chainsaw, "
    "generator, handsaw, firework, gunshot, woodchop, whistling, speaking, footsteps, clapping, insect, frog, "
    "bird chirping, wing flapping, lion, wolf howl, squirrel"
)
PRESETS = {"ESC-50": ESC50, "FSC22": FSC22}


def presets(embedder: Embedder) -> dict[str, str]:
    """Preset name -> its labels, as they are typed. Only presets whose labels this bundle all understands."""
    known = set(map(normalise_label, embedder.zeroshot.class_names))
    understood = {
        name: text for name, text in PRESETS.items() if embedder.knows_text or known.issuperset(read_labels(text) or ())
    }
    return {OWN: write_labels(embedder.zeroshot.class_names), **understood}
