"""Carry the sound of one tab to the others: each offers the sound that was chosen last."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from demo.events import handle_event

LONGEST_NAME = 40  # characters of a file name on the button


def add_offer() -> gr.Button:
    """Add the button that takes the sound of another tab. It is hidden until there is one."""
    return gr.Button("", visible=False, size="sm", elem_classes="offer")


def carry_sounds(tabs: Mapping[str, tuple[gr.Audio, gr.Button]]) -> None:
    """Let each tab offer the sound that was chosen last in another one.

    tabs   name of the tab -> its recording, and its button from `add_offer`
    """
    last = gr.State(None)
    for source, (sound, _) in tabs.items():
        others = [button for name, (_, button) in tabs.items() if name != source]

        def offer(path: str | None, source: str = source, count: int = len(others)) -> tuple[Any, ...]:
            if path is None:
                return (gr.skip(), *[gr.skip()] * count)
            name = Path(path).name
            short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
            return (path, *[gr.Button(f"Use the sound of “{source}”: {short}", visible=True)] * count)

        handle_event(sound.change, offer, [sound], [last, *others])
    for sound, button in tabs.values():
        handle_event(button.click, lambda path: (path, gr.Button(visible=False)), [last], [sound, button])
