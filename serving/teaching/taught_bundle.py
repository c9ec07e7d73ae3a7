"""Write what was taught as a bundle: the source's files with another map and model card, and the record of teaching."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import DESCRIPTIONS, MANIFEST, MODEL_CARD, TAUGHT, ZEROSHOT
from serving.bundle.manifest import write_manifest
from serving.files.new_folder import new_folder
from serving.teaching.lesson import Lesson
from serving.teaching.rivals import LEAST_SHARE, LEAST_TAKEN
from serving.teaching.taught_record import TaughtClass, record_text
from serving.text_model.text_source import read_descriptions
from serving.zeroshot.label_text import normalise_label
from serving.zeroshot.zeroshot_file import write_zeroshot

SECTION = "## Taught by examples"
NEXT = "## Scores"  # of the source's model card
SCORE_NAMES = {
    "taught_accuracy": "accuracy among the taught classes",
    "taught_accuracy_all": "accuracy among all classes of the bundle",
    "taught_kept": "not refused as none of the taught classes",
}


def write_taught_bundle(bundle: Bundle, lesson: Lesson, out: Path, overwrite: bool = False) -> None:
    """Write a new bundle into the folder `out`, whole or not at all. The embedding space is the source's.

    The source's signature is not copied, because it is of another manifest.
    errors   UsageError: `out` exists and must not be replaced, or it cannot be written; BundleError: a file of the
             source has changed
    """
    with new_folder(out, overwrite, MANIFEST) as folder:
        for name in bundle.manifest.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bundle.read(name))
        write_zeroshot(lesson.zeroshot, folder / ZEROSHOT)
        (folder / TAUGHT).write_text(record_text(lesson.classes, lesson.zeroshot.prior_weight, str(bundle.folder)))
        if lesson.descriptions and DESCRIPTIONS in bundle.manifest.files:
            texts = read_descriptions(bundle.read) | {
                normalise_label(name): text for name, text in lesson.descriptions.items()
            }
            (folder / DESCRIPTIONS).write_text(json.dumps(texts, indent=1) + "\n")
        card = bundle.read(MODEL_CARD).decode(errors="replace") if MODEL_CARD in bundle.manifest.files else ""
        (folder / MODEL_CARD).write_text(taught_card(card, lesson))
        kept = {name: score for name, score in bundle.manifest.scores.items() if name not in SCORE_NAMES}
        write_manifest(folder, replace(bundle.manifest, scores=kept | dict(lesson.scores), files={}))


def taught_card(card: str, lesson: Lesson) -> str:
    """The source's model card with a section on the taught classes before its scores. It replaces an older one.

    card   of the source, in Markdown; "": it has none
    """
    before, found, after = card.partition(f"{SECTION}\n")
    if found:
        before, after = before, after[after.find(f"\n{NEXT}") + 1 :] if f"\n{NEXT}" in after else ""
    else:
        before, mark, rest = card.partition(f"{NEXT}\n")
        after = mark + rest
    return f"{before}{section(lesson)}{after}"


def section(lesson: Lesson) -> str:
    """The section of a model card on the taught classes."""
    scores = "".join(f"| {SCORE_NAMES[name]} | {value:.1%} |\n" for name, value in lesson.scores.items())
    measured = f"| held-out examples | value |\n|---|---|\n{scores}" if scores else "No example could be held out.\n"
    rows = "".join(f"| {' | '.join(_cells(name, each))} |\n" for name, each in lesson.classes.items())
    weight = lesson.zeroshot.prior_weight
    return f"""{SECTION}

After the export, these classes were taught by examples, by descriptions, or by both, with `python -m serving.teach`.
The network and the embeddings are the same as before. The weight of a description, in examples, is {weight:g}.
Each recording was held out in turn, and its examples were named by what the others taught.

{measured}
| class | examples | recordings | held out | right among the taught classes | rival | description |
|---|---|---|---|---|---|---|
{rows}
A rival is the other class that takes most of the held-out examples when all classes of the bundle are labels: at least
{LEAST_TAKEN} examples, and {LEAST_SHARE:.0%} of them. If both are the same sound, teach the examples under its name; if
not, leave it out of the labels.

The scores below are those of the bundle before it was taught.

"""


def _cells(name: str, taught: TaughtClass) -> list[str]:
    """A row of the table of classes, in Markdown."""
    accuracy = "unknown" if taught.accuracy is None else f"{taught.accuracy:.1%}"
    rival = f"{taught.rival.name}: {taught.rival.taken}" if taught.rival else "none"
    cells = [name, len(taught.keys), taught.recordings, taught.held_out, accuracy, rival, taught.description or "none"]
    return [str(cell).replace("|", "\\|") for cell in cells]


def result_of(classes: Mapping[str, TaughtClass]) -> dict[str, dict[str, object]]:
    """The facts of each class for the JSON of a command."""
    return {
        name: {
            "examples": len(each.keys),
            "recordings": each.recordings,
            "description": each.description or None,
            "held_out": each.held_out,
            "accuracy": each.accuracy,
            "rival": asdict(each.rival) if each.rival else None,
        }
        for name, each in classes.items()
    }
