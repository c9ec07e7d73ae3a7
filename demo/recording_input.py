"""Where a recording comes from: a file, the microphone, or an example."""

from collections.abc import Sequence
from pathlib import Path

import gradio as gr

# A browser readies its microphone for calls: by itself it takes steady sounds for noise and makes them 20 dB softer.
MICROPHONE = """
(() => {
  const devices = navigator.mediaDevices;
  if (!devices) return;  // there are none where the page comes neither from this machine nor by HTTPS
  const open = devices.getUserMedia.bind(devices);
  const untouched = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  devices.getUserMedia = (wanted) =>
    open(wanted?.audio ? { ...wanted, audio: { ...Object(wanted.audio), ...untouched } } : wanted);
})();
"""


def add_sound(examples: Sequence[tuple[Path, str]], elem_id: str) -> gr.Audio:
    """Add the input of one recording, and the examples below it; its value is the path of a file.

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
