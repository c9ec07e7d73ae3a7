"""The input components for a recording: a file, the microphone, or an example."""

from collections.abc import Sequence

import gradio as gr

from demo.examples import Example
from demo.typed_labels import write_labels


def add_recording_input(elem_id: str) -> gr.Audio:
    """Add an input for one recording. Its value is a file path."""
    return gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",
        label="recording",
        elem_id=elem_id,
        elem_classes="sound",
        buttons=[],
    )


def add_examples(examples: Sequence[Example], sound: gr.Audio, labels: gr.Textbox | None = None) -> None:
    """Add examples, which fill `sound` at a click, and `labels` with the labels that fit the example."""
    if not examples:
        return
    with_labels = labels is not None and all(example.labels for example in examples)
    gr.Examples(
        [[str(each.path), *([write_labels(each.labels)] if with_labels else [])] for each in examples],
        [sound, *([labels] if with_labels and labels is not None else [])],
        label="examples",
        example_labels=[example.name for example in examples],
        examples_per_page=len(examples),
        api_visibility="private",
    )
