"""Ours: each bundle on each backend of this machine."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.graphs import count_work, front_end_graph, network_graph
from benchmarks.peers.peer import Computes, Peer, Setting
from benchmarks.runtimes import GPU_RUNTIMES, RUNTIMES, missing, open_model
from serving.audio import read_audio
from serving.bundle import BF16, Bundle
from serving.embedder import Embedder
from serving.errors import UsageError

RESAMPLER = "filter bank"
FRONT_END = "in the graph"
FFT = "SciPy FFT"

# Beside FP32: what pays on that backend.
LOWER = {"openvino": ("bf16", "int8")} | dict.fromkeys(GPU_RUNTIMES, ("fp16",))


def peers(setting: Setting, gpus: list[str]) -> Iterator[Peer]:
    """FP32 on every backend that works here, and lower precisions where they pay and the bundle has them."""
    for bundle in setting.bundles:
        for backend in RUNTIMES:
            if missing(backend, gpus) is None and (backend != "tensorrt" or any(bundle.folder.glob("engines/*"))):
                for precision in ("fp32", *LOWER.get(backend, ())):
                    if precision == BF16 or precision in bundle.manifest.models:
                        yield from _peer(setting, bundle, backend, precision, setting.threads)
                        if precision == "int8" and setting.threads > 1:
                            # So quick that a second thread may take as long to wake as it saves.
                            yield from _peer(setting, bundle, backend, precision, 1)


def _peer(setting: Setting, bundle: Bundle, backend: str, precision: str, threads: int) -> Iterator[Peer]:
    """One, or none where this processor does not compute bfloat16."""
    try:
        with tempfile.TemporaryDirectory(prefix="unheard-peers-") as cache:
            runtime = open_model(bundle, backend, precision, threads, Path(cache))
    except UsageError:
        if precision == BF16:
            return
        raise
    embedder = Embedder(bundle, runtime, precision, threads)
    network = bundle.manifest.network
    windows = len(embedder.windows(*read_audio(setting.sample)))
    front_end = FFT if backend == "openvino" else FRONT_END
    yield Peer(
        f"Unheard {network}, {backend}{'' if precision == 'fp32' else f' {precision}'}"
        f"{'' if threads == setting.threads else ', 1 thread'}",
        network,
        True,
        computes_of(bundle, windows, f"{runtime.name} {runtime.version}", front_end, RESAMPLER),
        lambda path: embedder.embed(*read_audio(path)),
        {"embed_files": embedder.embed_files},
        bundle,
        precision,
    )


def computes_of(bundle: Bundle, windows: int, runtime: str, front_end: str, resampler: str) -> Computes:
    """What a clip of so many windows takes, counted in the bundle's graphs."""
    network = count_work(network_graph(bundle))
    window = bundle.manifest.window
    in_graph = front_end == FRONT_END
    return Computes(
        layers=network.layers,
        windows=windows,
        window_s=window.samples / window.rate_hz,
        network_macs=windows * network.macs,
        front_end_macs=windows * count_work(front_end_graph(bundle)).macs if in_graph else None,
        resampler=resampler,
        front_end=front_end,
        runtime=runtime,
        weights="the bundle's",
    )
