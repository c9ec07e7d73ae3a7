"""Measure Unheard beside other ways from sound files to embeddings, in one run on one machine.

    python -m benchmarks.peers bundles/yamnet bundles/yamnet-compact bundles/vggish

All peers get the same 44.1 kHz files and the same number of threads, and take turns. In bulk another package is
measured twice, clip by clip as its documentation shows and inside Unheard's pipeline (files decoded ahead in threads,
several clips in a batch); the faster one counts. A bulk job repeats the files until it lasts about a second, because
the start and end of a shorter job would weigh too much. Layers, windows and multiply-accumulates are counted in the
networks that run.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.inputs import InputClips, bundle_name, check_range, input_clips, open_bundles, parse_names
from benchmarks.peers.peer import PACKAGES, Peer, PeerSetting, open_peers
from benchmarks.peers.peer_rows import (
    SETTLING,
    computation_table,
    peer_ratios,
    peer_row,
    plot_peers,
    ratio_table,
    speed_table,
)
from benchmarks.study import Study
from benchmarks.turns import TimedJob, time_jobs
from serving.bundle.bundle import Bundle
from serving.command_line import run_command
from serving.cores import usable_cores
from serving.cosine import worst_cosine
from serving.embedder import Embedder
from serving.errors import BackendError, UsageError

LEAST_COSINE = 0.999  # of a clip's embedding in a batch with that of the same clip alone
COMPARED_CLIPS = 3
PATCH_SECONDS = 0.96  # a window of the other packages
IN_A_ROW = 8  # single clips of a peer in each round
WARM_UP = 2  # rounds of single clips; bulk jobs run twice before they are timed


@dataclass(frozen=True)
class Options:
    """Measure files to embeddings, in bulk and one by one, beside other packages."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """bundle folders, each with one of Unheard's networks"""
    families: str | None = None
    """some of: Unheard, eager PyTorch, torch-vggish-yamnet, torchvggish, librosa + ONNX Runtime; separated by commas"""
    clips: int = 32
    """files of a bulk job"""
    bulk_seconds: float = 1.0
    """repeat the files until a bulk job lasts about this long, in seconds; 0: embed them once"""
    rounds: int = 5
    """how often each bulk job is timed"""
    repeats: int = 50
    """rounds of single clips, 8 in each: the first from rest, the last 5 as one after the other"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds; recordings keep their own"""
    recordings: Path | None = None
    """measure on the first sound files of this folder and its subfolders, unchanged; default: synthesised clips"""
    threads: int | None = None
    """threads of every runtime and of bulk decoding; default: the physical cores that this process may use"""
    out: Path = Path("runs/peers")
    """folder for peers.json, .csv, .md and .png, which are replaced"""


def check_options(options: Options) -> tuple[tuple[Bundle, ...], list[str]]:
    """The bundles, and the families to measure. UsageError: a flag is out of its range."""
    bundles = open_bundles(options.bundles)
    for flag, value, least, most in (
        ("--clips", options.clips, 1, 10_000),
        ("--bulk-seconds", options.bulk_seconds, 0, 600),
        ("--rounds", options.rounds, 1, 10_000),
        ("--repeats", options.repeats, 1, 10**6),
        ("--seconds", options.seconds, 1, 600),
        ("--threads", options.threads, 1, 1024),
    ):
        check_range(flag, value, least, most)
    return bundles, parse_names("--families", options.families or ",".join(PACKAGES), list(PACKAGES))


def refuse_short_recordings(clips: InputClips) -> None:
    """UsageError: a clip is shorter than the window of the other packages, which they do not pad to its length."""
    for name, (wave, rate_hz) in zip(clips.encoded, clips.decode(), strict=True):
        if (seconds := len(wave) / rate_hz) < PATCH_SECONDS:
            raise UsageError(
                f"--recordings: {name}: lasts {seconds:.2f} s; wanted {PATCH_SECONDS:g} s or more: give another folder"
            )


def compare_with_bundle(peer: Peer, paths: Sequence[Path]) -> float | None:
    """The lowest cosine of a peer's embeddings with its bundle's; None: it has other weights.

    errors   BackendError: a bulk way gives other embeddings than single clips
    """
    rows = np.stack([peer.one(path) for path in paths])
    for way, bulk in peer.bulk.items():
        if (cosine := worst_cosine(bulk(paths), rows)) < LEAST_COSINE:
            raise BackendError(f"{peer.name}: {way} gives other embeddings than clip by clip (cosine {cosine:.4f})")
    if peer.bundle is None:
        return None
    return worst_cosine(rows, Embedder.load(peer.bundle.folder, "onnxruntime").embed_files(paths))


def repeat_files(work: Callable[[Sequence[Path]], object], paths: Sequence[Path], seconds: float) -> list[Path]:
    """The files, repeated so often that the work lasts about this long, and at least once."""
    work(paths)  # warm-up: runtimes allocate buffers, numba compiles
    start = time.perf_counter()
    work(paths)
    return list(paths) * max(1, math.ceil(seconds / (time.perf_counter() - start)))


def time_peers(
    peers: Sequence[Peer], paths: Sequence[Path], options: Options
) -> dict[tuple[str, str], NDArray[np.floating]]:
    """Nanoseconds a clip by (peer, way): bulk ways [rounds], then "one" for single clips [repeats, IN_A_ROW]."""
    ways = {(peer.name, way): work for peer in peers for way, work in peer.bulk.items()}
    files = {key: repeat_files(work, paths, options.bulk_seconds) for key, work in ways.items()}
    bulk_jobs = {key: TimedJob(lambda turn, given=files[key]: given, work) for key, work in ways.items()}
    single_jobs = {(peer.name, "one"): TimedJob(lambda turn: paths[turn % len(paths)], peer.one) for peer in peers}
    bulk = time_jobs(bulk_jobs, options.rounds, 0, title="in bulk")
    single = time_jobs(single_jobs, options.repeats, WARM_UP, IN_A_ROW, title="single clips")
    durations: dict[tuple[str, str], NDArray[np.floating]] = {
        key: taken[:, 0] / len(files[key]) for key, taken in bulk.items()
    }
    return durations | {key: taken.astype(np.float64) for key, taken in single.items()}


def measure_peers(options: Options) -> dict[str, Any]:
    """Time all peers, write the files, and return what is printed as JSON."""
    bundles, families = check_options(options)
    threads = options.threads or usable_cores()
    clips = input_clips(options.recordings, options.seconds, options.clips)
    if options.recordings is not None:
        refuse_short_recordings(clips)
    study = Study("peers", options.out)
    with clips.as_files(options.clips) as paths, threadpool_limits(threads):
        peers, absent = open_peers(PeerSetting(threads, paths[0], bundles, study.host.gpus), families)
        cosines = {peer.name: compare_with_bundle(peer, paths[: min(COMPARED_CLIPS, len(clips))]) for peer in peers}
        durations = time_peers(peers, paths, options)
    rows = [
        peer_row(
            peer, {way: durations[peer.name, way] for way in peer.bulk}, durations[peer.name, "one"], cosines[peer.name]
        )
        for peer in peers
    ]
    ratios = peer_ratios(rows)
    record = study.record(
        bundles=[{"name": bundle_name(each), "network": each.manifest.network} for each in bundles],
        settings={"threads": threads, "clips": options.clips, "in_a_row": IN_A_ROW}
        | {key: getattr(options, key) for key in ("bulk_seconds", "rounds", "repeats")},
        clips={"source": clips.source, "distinct": len(clips)},
        not_measured=absent,
        rows=[asdict(row) for row in rows],
        ratios=[asdict(ratio) for ratio in ratios],
    )
    tables = [speed_table(rows), *([ratio_table(rows, ratios)] if ratios else []), computation_table(rows)]
    study.write(record, rows, tables, describe_conditions(record), lambda: plot_peers(rows))
    return record


def describe_conditions(record: Mapping[str, Any]) -> list[str]:
    """What the numbers depend on, one line each."""
    settings, clips = record["settings"], record["clips"]
    return [
        f"in bulk: {settings['clips']} files, repeated for about {settings['bulk_seconds']:g} s, median of "
        f"{settings['rounds']} rounds",
        f"single clips: {settings['repeats']} rounds of {settings['in_a_row']} in a row; the first is from rest, the "
        f"last {settings['in_a_row'] - SETTLING} give p50 to p99",
        f"all peers take turns, with {settings['threads']} threads each unless the name says otherwise",
        f"{clips['distinct']} distinct clips, {clips['source']}",
        "parity: lowest cosine with the bundle in FP32 on ONNX Runtime; - where the weights are others",
        *(f"{family}: {why}" for family, why in record["not_measured"].items()),
    ]


main = partial(run_command, Options, measure_peers, "python -m benchmarks.peers")

if __name__ == "__main__":
    raise SystemExit(main())
