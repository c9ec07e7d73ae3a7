"""The input component for a recording: a file, the microphone, or an example."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr


def add_recording_input(examples: Sequence[tuple[Path, str]], elem_id: str) -> gr.Audio:
    """Add an input for one recording, and the examples below it. Its value is a file path.

    examples   (file, name to show) pairs
    """
    sound = gr.Audio(
        sources=["upload", "microphone"],
        type="filepath",
        label="recording",
        elem_id=elem_id,
        elem_classes="sound",
        buttons=[],
    )
    if examples:
        gr.Examples(
            [[str(path)] for path, _ in examples],
            sound,
            label="examples",
            example_labels=[name for _, name in examples],
            examples_per_page=len(examples),
            api_visibility="private",
        )
    return sound
