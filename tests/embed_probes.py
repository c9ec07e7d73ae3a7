"""Embed a few probes with each backend of a bundle. Tests run this on an emulated CPU.

    python -m tests.embed_probes BUNDLE OUT.npz

It writes one array [n_probes, 128] for each backend and precision.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from serving.backends.bundle_runtime import open_openvino
from serving.backends.fft_front_end import FftLogMel
from serving.backends.onnxruntime import OnnxRuntime
from serving.backends.openvino import OpenVino
from serving.backends.runtime import Runtime
from serving.bundle.bundle import Bundle, open_bundle
from serving.log_mel import LogMelConfig
from serving.probes import probe_windows

# An emulated CPU takes a second for a window, so only a few: those on which 8-bit weights overflowed most.
PROBES = ("tone 1 kHz", "square 440 Hz, full scale", "square 4 kHz, full scale", "noise, full scale", "silence")


def embed_probes(folder: Path) -> dict[str, np.ndarray]:
    """Embeddings [n_probes, 128] float32 by "backend, precision", computed by one thread."""
    bundle = open_bundle(folder)
    names, windows = probe_windows(bundle.manifest.window)
    some = windows[[names.index(name) for name in PROBES]]

    def runtimes() -> Iterator[tuple[str, Runtime]]:
        for precision in ("fp32", "int8"):
            yield f"onnxruntime, {precision}", OnnxRuntime(bundle.model(precision), 1, ["cpu"])
            yield f"openvino, {precision}", open_openvino(bundle, precision, 1)
        yield "openvino, int8 and fp32", _without_bfloat16(bundle)

    return {title: runtime(some) for title, runtime in runtimes()}


def _without_bfloat16(bundle: Bundle) -> Runtime:
    """INT8 as `open_openvino` opens it, but what is no integer stays in FP32 also on a CPU that has bfloat16."""
    path = bundle.model("int8")
    network = OpenVino(path, 1, bf16=False, network=True, content=bundle.read_graph(path.name))
    return Runtime(network, FftLogMel(LogMelConfig(**bundle.manifest.front_end), False))


if __name__ == "__main__":
    np.savez(sys.argv[2], **embed_probes(Path(sys.argv[1])))  # pyright: ignore[reportArgumentType]
