"""Peers without PyTorch: Unheard's bundles on each backend, and librosa before a bundle's network in ONNX Runtime."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.bundle_parts import (
    GPU_BACKENDS,
    MEASURED_BACKENDS,
    count_work,
    front_end_graph,
    network_graph,
    open_model,
    why_missing,
)
from benchmarks.peers.peer import Computation, Peer, PeerSetting, two_part_peer
from serving.audio import cut_windows
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import BF16, ENGINES
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.pooling import pool

OUR_RESAMPLER = "filter bank"
FRONT_END_IN_GRAPH = "in the graph"
FRONT_END_BY_FFT = "SciPy FFT"

# Backend -> the precisions that are faster than FP32 on it.
LOWER_PRECISIONS = {"openvino": (BF16, "int8")} | dict.fromkeys(GPU_BACKENDS, ("fp16",))


def our_peers(setting: PeerSetting) -> Iterator[Peer]:
    """FP32 on every backend that works here, and the lower precisions that are faster on it."""
    for bundle in setting.bundles:
        for backend in MEASURED_BACKENDS:
            if why_missing(backend, setting.gpus) or (
                backend == "tensorrt" and not any((bundle.folder / ENGINES).glob("*"))
            ):
                continue
            for precision in ("fp32", *LOWER_PRECISIONS.get(backend, ())):
                if precision == BF16 or precision in bundle.manifest.models:
                    yield from _our_peer(setting, bundle, backend, precision, setting.threads)
                    if precision == "int8" and setting.threads > 1:
                        # INT8 is so fast that waking a second thread can take as long as it saves.
                        yield from _our_peer(setting, bundle, backend, precision, 1)


def _our_peer(setting: PeerSetting, bundle: Bundle, backend: str, precision: str, threads: int) -> Iterator[Peer]:
    """One peer; none where this processor does not compute bfloat16."""
    try:
        with TemporaryDirectory(prefix="unheard-peers-") as cache:
            runtime = open_model(bundle, backend, precision, threads, Path(cache))
    except UsageError:
        if precision == BF16:
            return
        raise
    embedder = Embedder(bundle, runtime, precision, threads)
    network = bundle.manifest.network
    windows = len(embedder.prepare_file(setting.sample).inputs)
    front_end = FRONT_END_BY_FFT if backend == "openvino" else FRONT_END_IN_GRAPH
    suffix = ("" if precision == "fp32" else f" {precision}") + ("" if threads == setting.threads else ", 1 thread")
    yield Peer(
        f"Unheard {network}, {backend}{suffix}",
        network,
        True,
        count_bundle(bundle, windows, f"{runtime.name} {runtime.version}", front_end, OUR_RESAMPLER),
        lambda path: pool(embedder.run_prepared(embedder.prepare_file(path).inputs)),
        {"embed_files": embedder.embed_files},
        bundle,
        precision,
    )


def count_bundle(bundle: Bundle, windows: int, runtime: str, front_end: str, resampler: str) -> Computation:
    """What a clip of so many windows takes, counted in the bundle's graphs."""
    network = count_work(network_graph(bundle))
    window = bundle.manifest.window
    in_graph = front_end == FRONT_END_IN_GRAPH
    return Computation(
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


def librosa_peers(setting: PeerSetting) -> Iterator[Peer]:
    """For each bundle its network after librosa's resampling and mel spectrogram.

    librosa spaces its mel filters linearly in Hz, not in mel: the embeddings are close to the bundle's, not equal.
    """
    for bundle in setting.bundles:
        yield _librosa_peer(bundle, setting)


def _librosa_peer(bundle: Bundle, setting: PeerSetting) -> Peer:
    import librosa

    window, front_end = bundle.manifest.window, bundle.manifest.front_end
    rate_hz, fft_bins = front_end["rate_hz"], front_end["fft_bins"]
    size, hop = round(front_end["window_s"] * rate_hz), round(front_end["hop_s"] * rate_hz)
    excess = fft_bins - size  # the FFT is longer than the window and would leave out the last frames

    def decode(path: Path) -> NDArray[np.float32]:
        wave, _ = librosa.load(path, sr=rate_hz)
        windows = np.pad(cut_windows(wave, window), ((0, 0), (excess // 2, excess - excess // 2)))
        mel = librosa.feature.melspectrogram(
            y=windows, sr=rate_hz, n_fft=fft_bins, win_length=size, hop_length=hop, center=False, power=1.0,
            n_mels=front_end["mel_bands"], fmin=front_end["low_hz"], fmax=front_end["high_hz"], htk=True, norm=None,
        )  # fmt: skip
        log_mel = np.log(mel + front_end["log_offset"]).swapaxes(1, 2)  # [n_windows, frames, 64]
        return np.ascontiguousarray(log_mel, np.float32)

    with TemporaryDirectory(prefix="unheard-librosa-") as folder:
        path = Path(folder, "network.onnx")
        onnx.save(network_graph(bundle), str(path))
        network = OnnxRuntime(path, setting.threads, ["cpu"])
    runtime = f"librosa {version('librosa')}, onnxruntime {network.version}"
    windows = len(decode(setting.sample))
    computation = count_bundle(bundle, windows, runtime, "librosa melspectrogram", "soxr HQ")
    name = f"librosa + ORT, {bundle.manifest.network}"
    return two_part_peer(name, bundle.manifest.network, computation, decode, network, setting.threads, bundle)
