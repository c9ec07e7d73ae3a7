"""The components for what a sound may be called: labels, presets that fill them, descriptions, "favour new sounds"."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from demo.bundle_choice import BundleChoice
from demo.events import add_action, handle_event
from demo.expected_score import expectation
from demo.labels.favour_new import STEP, largest_favour
from demo.labels.label_kinds import label_kinds
from demo.labels.label_presets import OWN, presets
from demo.labels.typed_labels import choose_labels, read_descriptions, read_labels, write_descriptions
from serving.embedder import Embedder
from serving.errors import LabelError, UsageError

# Bundle name -> embeddings of sounds [n, 128], to measure the spread of scores on; None: there are none.
Sounds = Callable[[str], NDArray[np.float32] | None]


@dataclass(frozen=True)
class LabelBox:
    """The components for labels.

    favour    the slider "favour new sounds": added to the bundle's own offset
    renewed   the event after which the box shows the labels of a newly chosen bundle
    """

    preset: gr.Radio
    labels: gr.Textbox
    favour: gr.Slider
    descriptions: gr.Textbox
    renewed: Any


def add_labels(
    bundles: BundleChoice, bundle: gr.Radio, promise: gr.HTML, sounds: Sounds, api_name: str | None = None
) -> LabelBox:
    """Add the box for labels. Views read `labels`, `favour` and `descriptions`.

    bundle    the component that names the bundle; if it changes, the box is filled again
    promise   shows how often an answer among these labels is right
    api_name  of the API action that returns a preset's labels; None: there is no such action
    """
    name = bundles.names[0]
    embedder = bundles.open(name)
    choices = presets(embedder)
    with gr.Group(elem_classes="naming"):
        preset = gr.Radio(list(choices), value=OWN, label="start from", elem_classes="preset")
        labels = gr.Textbox(
            choices[OWN], label="labels", info=advice(embedder), lines=2, max_lines=8, elem_classes="labels"
        )
        with gr.Accordion("what each label means to the model", open=False, elem_classes="meanings"):
            descriptions = gr.Textbox(
                describe(embedder, choices[OWN], ""),
                label="descriptions",
                info=ADVICE_DESCRIPTIONS,
                lines=4,
                max_lines=10,
                elem_classes="descriptions",
                interactive=embedder.labels.knows_text,
            )
        end = largest_favour(embedder.zeroshot, sounds(name))
        favour = gr.Slider(
            -end,
            end,
            value=0,
            step=STEP,
            label="favour new sounds",
            info="0 is the bundle's own balance. Further right, labels without recordings in the training win more "
            "often over the others; further left, less often.",
        )

    def fill(preset: str, bundle: str) -> str:
        choices = presets(bundles.open(bundle))
        if preset not in choices:
            raise UsageError(f"preset: got {preset}; this bundle understands {', '.join(choices)}")
        return choices[preset]

    def fill_for_programs(preset: str, bundle: str) -> dict[str, str]:
        """The labels of a preset, as they are typed."""
        return {"labels": fill(preset, bundle)}

    def fill_again(bundle: str) -> tuple[Any, ...]:
        embedder = bundles.open(bundle)
        choices = presets(embedder)
        box = gr.Textbox(choices[OWN], info=advice(embedder))
        meanings = gr.Textbox(describe(embedder, choices[OWN], ""), interactive=embedder.labels.knows_text)
        end = largest_favour(embedder.zeroshot, sounds(bundle))
        slider = gr.Slider(minimum=-end, maximum=end, value=0, step=STEP)
        return gr.Radio(list(choices), value=OWN), box, meanings, slider

    def follow(labels: str, descriptions: str, bundle: str) -> tuple[Any, str, str]:
        """The preset that has these labels, their descriptions, and what to expect."""
        embedder = bundles.open(bundle)
        preset = next((name for name, text in presets(embedder).items() if text == labels), None)
        return preset, describe(embedder, labels, descriptions), draw_promise(embedder, labels, descriptions)

    handle_event(preset.input, fill, [preset, bundle], [labels])
    renewed = handle_event(bundle.change, fill_again, [bundle], [preset, labels, descriptions, favour])
    typed = [labels, descriptions, bundle]
    handle_event(labels.change, follow, typed, [preset, descriptions, promise], trigger_mode="always_last")
    if api_name:
        add_action(fill_for_programs, [preset, bundle], api_name)
    return LabelBox(preset, labels, favour, descriptions, renewed)


def describe(embedder: Embedder, labels: str, descriptions: str) -> str:
    """The descriptions of typed labels, a line each; those that the visitor wrote stay."""
    try:
        named = read_labels(labels, embedder.zeroshot.class_names) or embedder.zeroshot.class_names
        return write_descriptions(embedder, named, read_descriptions(descriptions, embedder))
    except LabelError:  # the ranking says what is wrong
        return descriptions


def draw_promise(embedder: Embedder, labels: str, descriptions: str) -> str:
    """What to expect of a ranking of typed labels, as HTML; "" where nothing is known."""
    try:
        own = read_descriptions(descriptions, embedder)
        chosen = choose_labels(embedder, read_labels(labels, embedder.zeroshot.class_names), own)
    except LabelError:  # the ranking says what is wrong
        return ""
    text = expectation(embedder.manifest.scores, label_kinds(embedder, chosen, own))
    n = len(chosen.class_names)
    return f'<p class="promise"><b>{n} label{"s" if n > 1 else ""}.</b> {text}</p>' if text else ""


ADVICE_DESCRIPTIONS = (
    "One line each, label: description. The model compares the sound with these words; write what it sounds like."
)


def advice(embedder: Embedder) -> str:
    """How to type labels for this bundle."""
    if embedder.labels.knows_text:
        return (
            "Type English words: one label or whole description a line, or short labels separated by commas; put a "
            'label with a comma in quotes ("dog, barking").'
        )
    return (
        "This bundle came without its text model, so it understands only the names of its "
        f"{len(embedder.zeroshot.class_names)} classes."
    )
