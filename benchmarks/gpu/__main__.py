"""Measure all that the project does on an NVIDIA GPU, in 6 minutes, and write one page.

    make gpu
    python -m benchmarks.gpu --out docs/results/gpu.md

Each piece runs in a process of its own with a time limit. A piece that fails, or for which something is missing, is
named on the page with its reason, and the others go on. This program needs no package; the pieces need those that they
measure. Nothing is downloaded. Without a GPU, or where nothing was measured, an older page stays as it is, and the exit
code is 2.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from benchmarks.gpu.one_line_parser import OneLineParser, number_between
from benchmarks.gpu.page import table_lines, write_page

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results" / "gpu.md"
SHIPPED = ROOT / "demo" / "model-from-scratch"
UNTRAINED = """
import pathlib, sys, tests.small_bundle
tests.small_bundle.write_untrained_bundle(pathlib.Path(sys.argv[1]), "yamnet", ["fp32", "fp16"])
"""
LEAST_S = 5.0  # with less time left a piece is not begun
MOST_S = 86_400.0


@dataclass(frozen=True)
class Piece:
    """A part of the measurement: a title, the arguments of Python, and the most seconds that it may take."""

    title: str
    arguments: list[str]
    limit_s: float


@dataclass
class Outcome:
    """What became of a piece. tables: as `benchmarks.gpu.piece` writes them; why: "" or why there are none."""

    title: str
    seconds: float = 0.0
    why: str = ""
    error_lines: int = 0
    tables: list[dict[str, Any]] = field(default_factory=list)


def pieces(device: str, quick: bool, work: Path) -> list[Piece]:
    """All pieces, the most important first: the time may end before the last one."""
    common = ["--device", device, *(["--quick"] if quick else [])]
    network = {"yamnet": work / "yamnet", "yamnet-compact": SHIPPED}
    if quick:
        del network["yamnet"]
    found = [] if quick else [Piece("an untrained yamnet", ["-c", UNTRAINED, str(work / "yamnet")], 60)]
    found.append(Piece("tests marked gpu", ["-m", "benchmarks.gpu.marked_tests", *common], 60))
    found += [
        Piece(
            f"inference, {name}, {precision}",
            ["-m", "benchmarks.gpu.inference", str(bundle), "--precision", precision, *common],
            40,
        )
        for name, bundle in network.items()
        for precision in ("fp16", "fp32")
    ]
    found += [
        Piece("bulk", ["-m", "benchmarks.gpu.bulk", str(SHIPPED), *common], 60),
        Piece("server", ["-m", "benchmarks.gpu.server", str(SHIPPED), *common], 40),
        Piece("training", ["-m", "benchmarks.gpu.training", *common], 90),
        Piece("torch-vggish-yamnet", ["-m", "benchmarks.gpu.peers", *common], 30),
    ]
    return found


def run_piece(piece: Piece, limit_s: float) -> Outcome:
    """Run one piece and read its tables."""
    outcome, started = Outcome(piece.title), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="unheard-gpu-") as folder:
        out, errors = Path(folder) / "tables.json", Path(folder) / "errors"
        given = [*piece.arguments, "--json", str(out)] if piece.arguments[0] == "-m" else piece.arguments
        with errors.open("w") as sink:
            code = run_for(limit_s, [sys.executable, *given], sink)
        lines = [line.strip() for line in errors.read_text(errors="replace").splitlines() if line.strip()]
        outcome.error_lines = sum("cudnn" in line.lower() or "[E:onnxruntime" in line for line in lines)
        if out.exists():  # a piece writes after each table, so that what it had is kept
            outcome.tables = json.loads(out.read_text())
        if code is None:
            outcome.why = f"did not end within {limit_s:.0f} s"
        elif code:
            outcome.why = lines[-1][:300] if lines else f"exit code {code}"
    outcome.seconds = round(time.perf_counter() - started, 1)
    return outcome


def run_for(limit_s: float, command: list[str], sink: TextIO) -> int | None:
    """Run a command with its output in a file. Returns its exit code; None: it took longer and was ended.

    All processes that it has started are ended with it: they would take the time of the next piece.
    """
    with subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=sink, start_new_session=True) as process:
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def gpu_names() -> list[str]:
    """Name, driver and memory of each GPU, as nvidia-smi says them; none without it."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the page, print one JSON object as the last line. Returns the exit code."""
    parser = OneLineParser(prog="python -m benchmarks.gpu", description="Measure an NVIDIA GPU and write one page.")
    parser.add_argument("--out", type=Path, help="page to write; default with a GPU: docs/results/gpu.md")
    parser.add_argument(
        "--seconds", type=number_between(LEAST_S, MOST_S), default=345.0, help="all pieces together; default: 345"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try it without a GPU")
    parser.add_argument("--quick", action="store_true", help="few repeats and small batches: to try the program")
    options = parser.parse_args(argv)
    gpus = gpu_names()
    if options.device == "cuda" and not gpus:
        return refuse("no GPU here: nvidia-smi lists none; run it on a machine with one, or try it with --device cpu")
    out = options.out or (PAGE if options.device == "cuda" and not options.quick else None)
    if out is not None and (reason := unwritable(out)):  # before the work instead of after it
        return refuse(f"--out: {out} cannot be written ({reason}); give another path")
    outcomes = measure(options)
    tables = [table for outcome in outcomes for table in outcome.tables]
    if not any(table.get("numbers") for table in tables):
        for table in tables:  # the reasons of their rows
            print("\n".join(table_lines(table)), file=sys.stderr)
        return refuse("nothing was measured, so no page is written; correct what the lines above name")
    if out is not None:
        write_page(out, gpus, [asdict(each) for each in outcomes], options.device, options.quick)
    done = sum(not each.why for each in outcomes)
    print(json.dumps({"out": out and str(out), "gpus": gpus, "pieces": len(outcomes), "done": done}))
    return 0


def refuse(reason: str) -> int:
    """Say in one line why nothing is written. Returns the exit code."""
    print(f"error: {reason}", file=sys.stderr)
    return 2


def unwritable(page: Path) -> str | None:
    """Why a page cannot be written; None: it can. Its folder is made."""
    if page.is_dir():
        return "it is a folder"
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=page.parent):
            return None
    except OSError as error:
        return error.strerror


def measure(options: argparse.Namespace) -> list[Outcome]:
    """Run all pieces, one after the other, within the time."""
    deadline = time.perf_counter() + options.seconds
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="unheard-gpu-") as work:
        for piece in pieces(options.device, options.quick, Path(work)):
            left = deadline - time.perf_counter()
            if left < LEAST_S:
                outcome = Outcome(piece.title, why="no time was left")
            else:
                outcome = run_piece(piece, min(piece.limit_s, left))
            print(f"{piece.title}: {outcome.why or 'done'} ({outcome.seconds:g} s)", file=sys.stderr, flush=True)
            outcomes.append(outcome)
    return outcomes


if __name__ == "__main__":
    raise SystemExit(main())
