"""What a sound may be called: the box for labels, presets that fill it, and the offset of seen classes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from demo.bundle_choice import BundleChoice
from demo.events import add_action, handle_event
from serving import label_lists
from serving.embedder import Embedder
from serving.errors import LabelError, UsageError
from serving.label_lists import list_in_words
from serving.label_text import join_labels, normalise_label, split_labels, unquote

MAX_LABELS = 200
MAX_LENGTH = 300  # characters of a label; MiniLM reads no more than 256 tokens
SEPARATORS = ",;"
MAX_OFFSET = 10.0  # in units of a score: temperature (about 16) x cosine
OWN = "the bundle's classes"

# As they would be typed.
ESC50, FSC22 = (", ".join(list_in_words(names)) for names in (label_lists.ESC50, label_lists.FSC22))
PRESETS = {"ESC-50": ESC50, "FSC22": FSC22}


def read_labels(text: str | None, known: Iterable[str] = ()) -> list[str] | None:
    """Labels as they are typed: one a line, or all on one line with commas or semicolons between; each once.

    known    names of classes, which may have commas in them; a label in double quotes may too, see `split_labels`
    returns  None where nothing is typed: all classes of the bundle
    errors   LabelError: more than MAX_LABELS, one longer than MAX_LENGTH, or a quote that is not closed
    """
    text = (text or "").strip()
    parts = map(unquote, text.splitlines()) if "\n" in text else split_labels(text, known, SEPARATORS)
    once: dict[str, str] = {}
    for part in parts:
        once.setdefault(normalise_label(part), part.strip())
    labels = [label for key, label in once.items() if key]
    if len(labels) > MAX_LABELS:
        raise LabelError(f"labels: got {len(labels)}; the page takes up to {MAX_LABELS}")
    if any(len(label) > MAX_LENGTH for label in labels):
        raise LabelError(f"labels: one is longer than {MAX_LENGTH} characters; say it more briefly")
    return labels or None


def write_labels(labels: list[str]) -> str:
    """What `read_labels` reads again."""
    return join_labels((label.replace("_", " ") for label in labels), SEPARATORS)


def presets(embedder: Embedder) -> dict[str, str]:
    """Preset name -> its labels, as they are typed. Only presets whose labels this bundle all understands."""
    known = set(map(normalise_label, embedder.zeroshot.class_names))
    understood = {
        name: text for name, text in PRESETS.items() if embedder.knows_text or known.issuperset(read_labels(text) or ())
    }
    return {OWN: write_labels(embedder.zeroshot.class_names), **understood}


@dataclass(frozen=True)
class LabelBox:
    """The components for labels, and for the offset of seen classes.

    renewed   the event after which the box shows the labels of a newly chosen bundle
    """

    preset: gr.Dropdown
    labels: gr.Textbox
    offset: gr.Slider
    renewed: Any


def add_labels(bundles: BundleChoice, bundle: gr.Dropdown, api_name: str | None = None) -> LabelBox:
    """Add the box for labels, filled by presets. Views read `labels` and `offset`.

    bundle    the component that names the bundle; if it changes, the box is filled again
    api_name  of the API action that returns a preset's labels; None: there is no such action
    """
    embedder = bundles.open(bundles.names[0])
    choices = presets(embedder)
    with gr.Group(elem_classes="naming"):
        preset = gr.Dropdown(list(choices), value=OWN, label="start from", filterable=False)
        labels = gr.Textbox(
            choices[OWN], label="labels", info=advice(embedder), lines=2, max_lines=6, elem_classes="labels"
        )
        offset = gr.Slider(
            0,
            MAX_OFFSET,
            value=start_offset(embedder),
            step=0.1,
            label="offset of seen classes",
            info="Subtracted from the scores of classes that were in the training, so that others can rank first.",
        )

    def fill(preset: str, bundle: str) -> str:
        choices = presets(bundles.open(bundle))
        if preset not in choices:
            raise UsageError(f"preset: got {preset}; this bundle understands {', '.join(choices)}")
        return choices[preset]

    def fill_for_programs(preset: str, bundle: str) -> dict[str, str]:
        """The labels of a preset, as they are typed."""
        return {"labels": fill(preset, bundle)}

    def fill_again(bundle: str) -> tuple[Any, Any, Any]:
        embedder = bundles.open(bundle)
        choices = presets(embedder)
        box = gr.Textbox(choices[OWN], info=advice(embedder))
        return gr.Dropdown(list(choices), value=OWN), box, start_offset(embedder)

    handle_event(preset.input, fill, [preset, bundle], [labels])
    renewed = handle_event(bundle.change, fill_again, [bundle], [preset, labels, offset])
    if api_name:
        add_action(fill_for_programs, [preset, bundle], api_name)
    return LabelBox(preset, labels, offset, renewed)


def start_offset(embedder: Embedder) -> float:
    """The offset that the bundle's training chose, on the slider's steps."""
    return min(round(embedder.zeroshot.offset, 1), MAX_OFFSET)


def advice(embedder: Embedder) -> str:
    """How to type labels for this bundle."""
    if embedder.knows_text:
        return (
            "Type English words: one label or whole description a line, or short labels separated by commas; put a "
            'label with a comma in quotes ("dog, barking").'
        )
    return (
        "This bundle came without its text model, so it understands only the names of its "
        f"{len(embedder.zeroshot.class_names)} classes."
    )
