"""One way from sound files to embeddings, and what it computes on the way."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio import AudioError
from serving.bundle import Bundle
from serving.embedder import pool
from serving.files import DecodedFile, embed_each, file_size

AHEAD_CLIPS = 8  # in a batch of a peer that is helped with ours


@dataclass(frozen=True)
class Computes:
    """What is computed for one clip, so that nobody is compared unfairly.

    layers           convolutions and linear layers of the network
    windows          that the clip is cut into, and the seconds of each
    network_macs     multiply-accumulates of the network on all windows
    front_end_macs   of the front end where it is made of convolutions and products; None: an FFT, not counted
    weights          "the bundle's", or "untrained": then the embeddings mean nothing, the time does
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
    """A way to be measured.

    network    of ours: which; of others: their own name for it
    one        path -> embedding [n] float32, the least latency that this way offers
    bulk       name -> paths -> embeddings [n_files, n]: the ways to do many; the fastest counts
    bundle     whose weights it runs: its embeddings are compared with that bundle's FP32 ones
    precision  as for `Embedder.load`; the others compute in FP32
    """

    name: str
    network: str
    ours: bool
    computes: Computes
    one: Callable[[Path], NDArray[np.float32]]
    bulk: Mapping[str, Callable[[Sequence[Path]], NDArray[np.float32]]]
    bundle: Bundle | None = None
    precision: str = "fp32"


@dataclass(frozen=True)
class Setting:
    """What all peers get: the same threads, the same clips, our bundles. sample: a clip, to count windows on."""

    threads: int
    sample: Path
    bundles: tuple[Bundle, ...]


def make_peer(
    name: str,
    network: str,
    computes: Computes,
    decode: Callable[[Path], NDArray[np.float32]],
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    threads: int,
    bundle: Bundle | None = None,
) -> Peer:
    """A peer of two parts. In bulk it is measured as its documentation shows, and helped by our pipeline.

    decode   path -> the network's input [n_windows, ...]
    run      that of one clip or of several -> rows [n_windows, n]
    """

    def one(path: Path) -> NDArray[np.float32]:
        return pool(run(decode(path)))

    def each(paths: Sequence[Path]) -> NDArray[np.float32]:
        return np.stack([one(path) for path in paths])

    def ahead(paths: Sequence[Path]) -> NDArray[np.float32]:
        """Decoded and turned into log-mel in threads, while the network runs on batches of several clips."""
        rows: list[NDArray[np.float32]] = []
        files = embed_each(
            paths, file_size, lambda path: DecodedFile(0.0, decode(path)), run, AHEAD_CLIPS * computes.windows, threads
        )
        with closing(files) as outcomes:
            for _, outcome in outcomes:
                if isinstance(outcome, AudioError):
                    raise outcome
                rows.append(pool(outcome.rows))
        return np.stack(rows)

    bulk = {"clip by clip": each, f"threads ahead, {AHEAD_CLIPS} clips a batch": ahead}
    return Peer(name, network, False, computes, one, bulk, bundle)
