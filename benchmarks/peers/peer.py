"""A peer: one way from sound files to embeddings, and what it computes for a clip."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio import PreparedWindows
from serving.bulk.embed_files import embed_each, file_size
from serving.bundle.bundle import Bundle
from serving.errors import AudioError
from serving.extras import pip_install
from serving.pooling import pool

BATCH_CLIPS = 8  # clips in a batch when another package runs inside Unheard's pipeline

# Family of peers -> the packages that it needs.
PACKAGES = {
    "Unheard": (),
    "eager PyTorch": ("torch", "torchaudio"),
    "torch-vggish-yamnet": ("torch", "torchaudio", "torch_vggish_yamnet"),
    "torchvggish": ("torch", "resampy", "torchvggish"),
    "librosa + ONNX Runtime": ("librosa",),
}
NOT_INSTALLED = f"not installed: {pip_install('peers')}"


@dataclass(frozen=True)
class Computation:
    """What a peer computes for one clip, so that differences in speed can be understood.

    layers           convolutions and linear layers of the network
    windows          windows that the clip is cut into; window_s: the length of each in seconds
    network_macs     multiply-accumulates of the network on all windows
    front_end_macs   of a front end made of convolutions and products; None: it uses an FFT, which is not counted
    weights          "the bundle's"; or "untrained": the time is right, the embeddings mean nothing
    """

    layers: int
    windows: int
    window_s: float
    network_macs: int
    front_end_macs: int | None
    resampler: str
    front_end: str
    runtime: str
    weights: str


@dataclass(frozen=True)
class Peer:
    """One way to be measured.

    network    Unheard's name of it, or the package's own
    one        path -> embedding [n] float32, with the lowest latency that this way offers
    bulk       name -> paths -> embeddings [n_files, n]: ways to embed many files; the fastest counts
    bundle     whose weights it runs; its embeddings are compared with that bundle's FP32 ones
    precision  as for `Embedder.load`; other packages compute in FP32
    """

    name: str
    network: str
    ours: bool
    computation: Computation
    one: Callable[[Path], NDArray[np.float32]]
    bulk: Mapping[str, Callable[[Sequence[Path]], NDArray[np.float32]]]
    bundle: Bundle | None = None
    precision: str = "fp32"


@dataclass(frozen=True)
class PeerSetting:
    """What all peers share. sample: a clip whose windows are counted; gpus: of this machine."""

    threads: int
    sample: Path
    bundles: tuple[Bundle, ...]
    gpus: list[str]


@dataclass(frozen=True)
class PreparedClip:
    """A clip as `embed_each` reads it. Only the inputs count here: nothing reads the facts of its windows."""

    inputs: NDArray[np.float32]
    duration_s: float = 0.0
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[PreparedWindows]:
        none = np.zeros(len(self.inputs))
        yield PreparedWindows(
            starts_s=none, ends_s=none, padded=none.astype(bool), levels_dbfs=none, inputs=self.inputs
        )


def two_part_peer(
    name: str,
    network: str,
    computation: Computation,
    decode: Callable[[Path], NDArray[np.float32]],
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    threads: int,
    bundle: Bundle | None = None,
) -> Peer:
    """A peer of another package. In bulk it runs as its documentation shows, and inside Unheard's pipeline.

    decode   path -> the network's input [n_windows, ...]
    run      that of one clip or of several -> rows [n_windows, n]
    """

    def one(path: Path) -> NDArray[np.float32]:
        return pool(run(decode(path)))

    def clip_by_clip(paths: Sequence[Path]) -> NDArray[np.float32]:
        return np.stack([one(path) for path in paths])

    def prepare(path: Path) -> PreparedClip:
        return PreparedClip(decode(path))

    def in_pipeline(paths: Sequence[Path]) -> NDArray[np.float32]:
        rows: list[NDArray[np.float32]] = []
        batch = BATCH_CLIPS * computation.windows
        files = embed_each(paths, file_size, prepare, run, batch, threads)
        with closing(files) as outcomes:
            for _, outcome in outcomes:
                if isinstance(outcome, AudioError):
                    raise outcome
                rows.append(pool(outcome.rows))
        return np.stack(rows)

    bulk = {"clip by clip": clip_by_clip, f"threads ahead, {BATCH_CLIPS} clips a batch": in_pipeline}
    return Peer(name, network, False, computation, one, bulk, bundle)


def open_peers(setting: PeerSetting, families: Sequence[str]) -> tuple[list[Peer], dict[str, str]]:
    """The peers of these families; for each family that is not installed, the reason."""
    peers: list[Peer] = []
    absent: dict[str, str] = {}
    for family in families:
        missing = [package for package in PACKAGES[family] if find_spec(package) is None]
        if missing:
            absent[family] = f"{NOT_INSTALLED} (no {', '.join(missing)})"
        else:
            peers += _open_family(family, setting)
    return peers, absent


def _open_family(family: str, setting: PeerSetting) -> Iterator[Peer]:
    # Imported here: a package that is not measured need not be installed.
    if "torch" not in PACKAGES[family]:
        from benchmarks.peers import onnx_peers

        return onnx_peers.our_peers(setting) if family == "Unheard" else onnx_peers.librosa_peers(setting)
    from benchmarks.peers import torch_peers

    return torch_peers.FAMILIES[family](setting)
