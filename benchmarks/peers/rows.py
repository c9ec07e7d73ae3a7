"""What was measured of each peer, and how ours compare with the others."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.peer import Peer
from benchmarks.report import shown
from benchmarks.timing import percentiles

SETTLING = 3  # clips of a row that find the machine as another way left it


@dataclass(frozen=True)
class PeerRow:
    """One way from files to embeddings, and the numbers of `Computes`.

    precision          that it computes in
    clips_per_second   in bulk, by the fastest of its ways: bulk; the median over rounds
    p50_ms .. p99_ms   of a single clip, file to embedding, one after the other; n durations
    rest_p50_ms        the same from rest
    worst_cosine       of its embeddings with those of its bundle in FP32 on ONNX Runtime; None: other weights
    """

    name: str
    network: str
    ours: bool
    precision: str
    clips_per_second: float
    bulk: str
    n: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    rest_p50_ms: float
    worst_cosine: float | None
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
class Ratio:
    """One of ours against another: above 1 ours is ahead, in clips a second and in the medians of a single clip."""

    ours: str
    peer: str
    throughput: float
    latency: float
    rest_latency: float


def make_row(
    peer: Peer,
    bulk_ns: Mapping[str, NDArray[np.floating]],
    one_ns: NDArray[np.floating],
    worst_cosine: float | None,
) -> PeerRow:
    """The row of a peer.

    bulk_ns  nanoseconds a clip of each bulk job, by way
    one_ns   [n_rows, n_clips] of single clips in a row: the first from rest, and those after SETTLING of them count
    """
    rates = {way: 1e9 / float(np.median(samples)) for way, samples in bulk_ns.items()}
    fastest = max(rates, key=lambda way: rates[way])
    single = percentiles(one_ns[:, SETTLING:].ravel())
    return PeerRow(
        peer.name, peer.network, peer.ours, peer.precision, rates[fastest], fastest, single.n, single.p50_ms,
        single.p95_ms, single.p99_ms, percentiles(one_ns[:, 0]).p50_ms, worst_cosine, **asdict(peer.computes),
    )  # fmt: skip


def make_ratios(rows: Sequence[PeerRow]) -> list[Ratio]:
    """Each of ours against each of the others."""
    return [
        Ratio(
            mine.name,
            other.name,
            mine.clips_per_second / other.clips_per_second,
            other.p50_ms / mine.p50_ms,
            other.rest_p50_ms / mine.rest_p50_ms,
        )
        for mine in rows
        if mine.ours
        for other in rows
        if not other.ours
    ]


def best_of_ours(rows: Sequence[PeerRow]) -> list[PeerRow]:
    """Of each of our networks the fastest in bulk: in FP32, and in a lower precision where that is faster still."""
    best: list[PeerRow] = []
    for network in dict.fromkeys(row.network for row in rows if row.ours):
        ours = [row for row in rows if row.ours and row.network == network]
        ours.sort(key=lambda row: -row.clips_per_second)
        fp32 = [row for row in ours if row.precision == "fp32"]
        best += dict.fromkeys([*fp32[:1], ours[0]])
    return best


SPEED_HEAD = ("files to embeddings", "clips/s", "p50 ms", "p95 ms", "p99 ms", "p50 from rest", "parity")
COMPUTES_HEAD = ("", "layers", "windows", "MMAC network", "MMAC front end", "front end", "resampler", "weights", "bulk")


def speed_lines(rows: Sequence[PeerRow]) -> list[list[str]]:
    """The cells under `SPEED_HEAD`."""
    return [
        [
            row.name,
            *(shown(value) for value in (row.clips_per_second, row.p50_ms, row.p95_ms, row.p99_ms, row.rest_p50_ms)),
            "-" if row.worst_cosine is None else f"{row.worst_cosine:.7f}",
        ]
        for row in rows
    ]


def computes_lines(rows: Sequence[PeerRow]) -> list[list[str]]:
    """The cells under `COMPUTES_HEAD`: multiply-accumulates of a clip, in millions."""
    return [
        [
            row.name,
            str(row.layers),
            f"{row.windows} x {row.window_s:.2f} s",
            f"{row.network_macs / 1e6:.0f}",
            "FFT" if row.front_end_macs is None else f"{row.front_end_macs / 1e6:.0f}",
            row.front_end,
            row.resampler,
            row.weights,
            row.bulk,
        ]
        for row in rows
    ]


def ratio_head(rows: Sequence[PeerRow]) -> list[str]:
    """The columns of `ratio_lines`: one for each of our networks, with its backend."""
    return [
        "times ahead: clips/s, p50, from rest",
        *(mine.name.removeprefix("Unheard ") for mine in best_of_ours(rows)),
    ]


def ratio_lines(rows: Sequence[PeerRow], ratios: Sequence[Ratio]) -> list[list[str]]:
    """A line for each of the others: how many times ours is ahead in bulk, and in the medians of a single clip."""
    found = {(ratio.ours, ratio.peer): ratio for ratio in ratios}
    return [
        [
            other.name,
            *(
                f"{ratio.throughput:.1f}, {ratio.latency:.1f}, {ratio.rest_latency:.1f}"
                for ratio in (found[mine.name, other.name] for mine in best_of_ours(rows))
            ),
        ]
        for other in rows
        if not other.ours
    ]
