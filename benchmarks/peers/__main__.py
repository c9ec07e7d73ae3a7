"""Measure ours beside what else turns sound files into embeddings, in one run on one machine.

    python -m benchmarks.peers bundles/yamnet bundles/yamnet-compact bundles/vggish

The same 44.1 kHz files, the same threads, rounds that all take turns in. In bulk another way is measured as its
documentation shows, clip by clip, and helped by our pipeline (decoded ahead in threads, several clips a batch): the
faster counts. All do the files over and over until a second has passed: of a tenth of one, which the fastest need for
32, starting and ending would be a part. Layers, windows and multiply-accumulates are counted in the networks that run,
not taken from papers.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from benchmarks.clips import clip_files, gather_clips, told
from benchmarks.flags import at_least, names
from benchmarks.machine import this_machine
from benchmarks.peers.families import PACKAGES, open_peers
from benchmarks.peers.peer import Peer, Setting
from benchmarks.peers.plot import plot_peers
from benchmarks.peers.rows import (
    COMPUTES_HEAD,
    SETTLING,
    SPEED_HEAD,
    PeerRow,
    Ratio,
    computes_lines,
    make_ratios,
    make_row,
    ratio_head,
    ratio_lines,
    speed_lines,
)
from benchmarks.report import bullets, make_folder, tell, to_csv, to_markdown, to_table, write_json, write_text
from benchmarks.timing import Job, time_in_rows, time_in_turns
from serving.agreement import worst_cosine
from serving.bundle import Bundle, open_bundle
from serving.command import progress_console, run_command
from serving.cores import usable_cores
from serving.embedder import Embedder
from serving.errors import BackendError, UsageError

AGREES = 0.999  # the least cosine of a clip in a batch with the same clip alone
COMPARED = 3  # clips whose embeddings are compared
IN_A_ROW = 8  # single clips: the first from rest, and those after SETTLING of them one after the other
WARM_UP = 2  # rounds of single clips; bulk jobs have run twice before they are timed


@dataclass(frozen=True)
class Options:
    """Measure files to embeddings, in bulk and one by one, beside other packages."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """bundle folders, each a network of ours"""
    families: str | None = None
    """some of: Unheard, eager PyTorch, torch-vggish-yamnet, torchvggish, librosa + ONNX Runtime; with commas between"""
    clips: int = 32
    """files of a bulk job"""
    bulk_seconds: float = 1.0
    """repeat the files until a bulk job lasts about so long; 0: do them once"""
    rounds: int = 5
    """how often each bulk job is timed"""
    repeats: int = 50
    """how often single clips are timed, 8 in a row: the first from rest, the last 5 as one after the other"""
    seconds: float = 5.0
    """length of the synthesised 44.1 kHz clips, in seconds; recordings keep theirs"""
    recordings: Path | None = None
    """measure on the first sound files of this folder and its subfolders, as they are; default: synthesised clips"""
    threads: int | None = None
    """of every runtime, and that decode in bulk; default: the physical cores that this process may use"""
    out: Path = Path("runs/peers")
    """where peers.json, .csv, .md and .png go, replacing older ones"""


def check(options: Options) -> tuple[tuple[Bundle, ...], list[str]]:
    """The bundles, and the families to measure. UsageError for a flag out of its range."""
    if not options.bundles:
        raise UsageError("BUNDLES: got none; wanted bundle folders of our networks, made with: python -m export.onnx")
    for flag, value, least, most in (
        ("--clips", options.clips, 1, 10_000),
        ("--bulk-seconds", options.bulk_seconds, 0, 600),
        ("--rounds", options.rounds, 1, 10_000),
        ("--repeats", options.repeats, 1, 10**6),
        ("--seconds", options.seconds, 0.1, 600),
        ("--threads", options.threads, 1, 1024),
    ):
        at_least(flag, value, least, most)
    families = names("--families", options.families or ",".join(PACKAGES), list(PACKAGES))
    return tuple(map(open_bundle, options.bundles)), families


def compare(peer: Peer, paths: Sequence[Path]) -> float | None:
    """The worst cosine of a peer's embeddings with its bundle's; each of its ways has to give the same.

    errors   BackendError: its bulk ways differ from its single one
    """
    rows = np.stack([peer.one(path) for path in paths])
    for way, bulk in peer.bulk.items():
        if (off := worst_cosine(bulk(paths), rows)) < AGREES:
            raise BackendError(f"{peer.name}: {way} gives other embeddings than clip by clip (cosine {off:.4f})")
    if peer.bundle is None:
        return None
    return worst_cosine(rows, Embedder.load(peer.bundle.folder, "onnxruntime").embed_files(paths))


def enough_files(work: Callable[[Sequence[Path]], object], paths: Sequence[Path], seconds: float) -> list[Path]:
    """The files as often as makes the work last about so many seconds, once at least."""
    work(paths)  # warm-up: runtimes make their buffers, numba compiles
    start = time.perf_counter()
    work(paths)
    return list(paths) * max(1, math.ceil(seconds / (time.perf_counter() - start)))


def time_all(peers: Sequence[Peer], paths: Sequence[Path], options: Options) -> dict[Any, NDArray[np.floating]]:
    """Nanoseconds a clip by (peer, way), bulk [rounds] first, then "one" clip [repeats, IN_A_ROW]; all take turns."""
    ways = {(peer.name, way): work for peer in peers for way, work in peer.bulk.items()}
    files = {key: enough_files(work, paths, options.bulk_seconds) for key, work in ways.items()}
    bulk = {key: Job(lambda turn, given=files[key]: given, work) for key, work in ways.items()}
    single = {(peer.name, "one"): Job(lambda turn: paths[turn % len(paths)], peer.one) for peer in peers}
    with Progress(console=progress_console, auto_refresh=False) as progress:

        def bar(what: str, total: int) -> Callable[[], None]:
            return partial(progress.update, progress.add_task(what, total=total), advance=1, refresh=True)

        in_bulk = time_in_turns(bulk, options.rounds, 0, bar("in bulk", options.rounds))
        turns = bar("one clip", WARM_UP + options.repeats)
        one_clip = time_in_rows(single, IN_A_ROW, options.repeats, WARM_UP, turns)
    durations: dict[Any, NDArray[np.floating]] = {key: taken / len(files[key]) for key, taken in in_bulk.items()}
    return durations | {key: taken.astype(np.float64) for key, taken in one_clip.items()}


def measure(options: Options) -> dict[str, Any]:
    """Time everybody, write the files, and return what is printed as JSON."""
    load_before = os.getloadavg()[0]
    bundles, families = check(options)
    threads = options.threads or usable_cores()
    clips = gather_clips(options.recordings, options.seconds, options.clips)
    make_folder(options.out)
    machine = this_machine()
    with clip_files(clips, options.clips) as paths, threadpool_limits(threads):
        peers, absent = open_peers(Setting(threads, paths[0], bundles), families, machine.gpus)
        cosines = {peer.name: compare(peer, paths[: min(COMPARED, len(clips))]) for peer in peers}
        durations = time_all(peers, paths, options)
    rows = [
        make_row(
            peer,
            {way: durations[peer.name, way] for way in peer.bulk},
            durations[peer.name, "one"],
            cosines[peer.name],
        )
        for peer in peers
    ]
    ratios = make_ratios(rows)
    result = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": asdict(machine) | {"load_average_before": round(load_before, 2)},
        "bundles": [{"name": each.folder.resolve().name, "network": each.manifest.network} for each in bundles],
        "settings": {"threads": threads, "clips": options.clips, "in_a_row": IN_A_ROW}
        | {key: getattr(options, key) for key in ("bulk_seconds", "rounds", "repeats")},
        "clips": {"source": told(options.recordings, options.seconds), "distinct": len(clips)},
        "not_measured": absent,
        "rows": [asdict(row) for row in rows],
        "ratios": [asdict(ratio) for ratio in ratios],
        "out": str(options.out),
    }
    report(rows, ratios, result, describe(result, str(machine)), options.out)
    return result


def describe(result: Mapping[str, Any], machine: str) -> list[str]:
    """What the numbers depend on, a line each."""
    settings, clips = result["settings"], result["clips"]
    return [
        f"in bulk {settings['clips']} files, again and again for about {settings['bulk_seconds']:g} s, median of "
        f"{settings['rounds']} rounds; one clip {settings['repeats']} times {settings['in_a_row']} in a row, of which "
        f"the first is from rest and p50 to p99 are of the last {settings['in_a_row'] - SETTLING}; all take turns, "
        f"{settings['threads']} threads each where no other number is named",
        f"{clips['distinct']} distinct clips, {clips['source']}",
        "parity: worst cosine with the bundle in FP32 on ONNX Runtime; - where the weights are others",
        *(f"{family}: {why}" for family, why in result["not_measured"].items()),
        f"{machine}; load average before: {result['machine']['load_average_before']:g}",
    ]


def report(
    rows: Sequence[PeerRow], ratios: Sequence[Ratio], result: dict[str, Any], notes: Sequence[str], out: Path
) -> None:
    """Write peers.json, .csv, .md and .png, and show the tables."""
    write_json(result, out / "peers.json")
    tables = [(SPEED_HEAD, speed_lines(rows), 1), (COMPUTES_HEAD, computes_lines(rows), 1)]
    if ratios:
        tables.insert(1, (tuple(ratio_head(rows)), ratio_lines(rows, ratios), 1))
    if rows:
        write_text(to_csv(rows), out / "peers.csv")
        plot_peers(rows, "44.1 kHz files to embeddings", notes, out / "peers.png")
    text = "\n".join(to_markdown(head, lines, left) for head, lines, left in tables)
    write_text(f"{text}\n{bullets(notes)}", out / "peers.md")
    shown_tables = [to_table("", head, lines, left) for head, lines, left in tables[:-1]]
    tell(shown_tables, [*notes, f"written: {out}/peers.json, peers.csv, peers.md, peers.png"])


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, measure, "python -m benchmarks.peers", argv)


if __name__ == "__main__":
    raise SystemExit(main())
