"""taught.json of a bundle: which classes were taught by examples, by which ones, and how well that worked."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import TAUGHT
from serving.bundle.manifest import Manifest
from serving.errors import BundleError
from serving.teaching.example_keys import recording_of, stretch_of
from serving.teaching.rivals import Rival
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import normalise_label

MOST_KEYS = 1_000_000


@dataclass(frozen=True)
class TaughtClass:
    """A class that was taught.

    description  that was given for it; "": none
    keys         of its examples, see `example_keys`
    held_out     number of its examples that were scored by what the other recordings taught
    right        how many of them were named right among the taught classes
    rival        the other class that takes many of them; None: there is none
    """

    description: str = ""
    keys: tuple[str, ...] = ()
    held_out: int = 0
    right: int = 0
    rival: Rival | None = None

    @property
    def recordings(self) -> int:
        """Number of recordings that its examples come from."""
        return len(set(map(recording_of, self.keys)))

    @property
    def accuracy(self) -> float | None:
        """Share of the held-out examples that were named right; None: none could be held out."""
        return self.right / self.held_out if self.held_out else None


def new_classes(zeroshot: ZeroShot, manifest: Manifest) -> list[str]:
    """The classes that were taught by examples and are not of the training: its scores say nothing about them."""
    trained = set(map(normalise_label, manifest.seen_classes))
    names = zip(zeroshot.class_names, zeroshot.has_examples, strict=True)
    return [name for name, taught in names if taught and normalise_label(name) not in trained]


def read_record(bundle: Bundle) -> dict[str, TaughtClass]:
    """The classes that a bundle was taught: name -> facts. BundleError: taught.json is something else."""
    if TAUGHT not in bundle.manifest.files:
        return {}
    try:
        return {str(name): _class_of(fields) for name, fields in json.loads(bundle.read(TAUGHT))["classes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{bundle.path(TAUGHT)}: is damaged ({type(error).__name__}); teach it again") from error


def _class_of(fields: Mapping[str, Any]) -> TaughtClass:
    keys = fields["keys"]
    if not isinstance(keys, list) or len(keys) > MOST_KEYS or not all(isinstance(key, str) for key in keys):
        raise ValueError("keys")
    for key in keys:
        stretch_of(key)  # ValueError: it is no key
    rival = fields.get("rival")  # older records have none
    if rival is not None:
        rival = Rival(str(rival["name"]), int(rival["taken"]), int(rival["held_out"]))
    return TaughtClass(str(fields["description"]), tuple(keys), int(fields["held_out"]), int(fields["right"]), rival)


def record_text(classes: Mapping[str, TaughtClass], prior_weight: float, source: str) -> str:
    """The content of taught.json. source: the folder of the bundle that was taught."""
    content = {
        "source": source,
        "prior_weight": prior_weight,
        "classes": {name: asdict(each) for name, each in classes.items()},
    }
    return json.dumps(content, indent=1) + "\n"
