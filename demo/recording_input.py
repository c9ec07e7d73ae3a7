"""The input components for a recording: a file, the microphone, or an example."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache

from demo.events import handle_event
from demo.examples import Example
from demo.labels.typed_labels import write_labels


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
    """Add examples, which fill `sound` at a click, and `labels` with the labels that fit the example.

    This is not `gr.Examples`, which starts ffprobe for each file while the page is built: 3 s for 12 files in 3 tabs.
    """
    if not examples:
        return
    names = [example.name for example in examples]
    filled = [labels] if labels is not None and all(example.labels for example in examples) else []
    buttons = gr.Dataset(
        label="examples",
        components=["textbox"],
        samples=[[name] for name in names],
        sample_labels=names,
        samples_per_page=len(examples),
        type="index",
    )

    def choose(number: int) -> list[Any] | Any:
        chosen = examples[number]
        # The page may only show files of its own cache.
        path = save_file_to_cache(chosen.path, cache_dir=sound.GRADIO_CACHE)
        return [path, write_labels(chosen.labels)] if filled else path

    handle_event(buttons.click, choose, [buttons], [sound, *filled])
