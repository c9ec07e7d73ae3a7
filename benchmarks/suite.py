"""Run every benchmark, short, and write the page of what they found.

    python -m benchmarks.suite bundles/yamnet bundles/yamnet-compact bundles/vggish
    make bench

Each program runs in a process of its own, one after the other; nothing else should run on the machine meanwhile.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.page import write_page
from benchmarks.report import make_folder
from serving.bundle import open_bundle
from serving.command import run_command, say
from serving.errors import BackendError, UsageError

# Program -> its flags in a short run, a few minutes on two cores, and in a full one.
SHORT = {
    "peers": "--rounds 3 --repeats 20",
    "latency": "--batch 1,8 --repeats 10",
    "resamplers": "--repeats 20",
    "load": "--connections 1,2,4,8,16 --load-seconds 4",
    "training": "--rounds 3",
    "efficiency": "--repeats 10",
    "scaling": "--clips 100,1000",
}
FULL = {
    "peers": "--rounds 9 --repeats 200",
    "latency": "--batch 1,8,32 --repeats 100",
    "resamplers": "--repeats 100",
    "load": "--connections 1,2,4,8,16,32 --load-seconds 10 --overload 4",
    "training": "--rounds 7 --clips 256",
    "efficiency": "--repeats 50",
    "scaling": "--clips 100,1000,10000",
}


@dataclass(frozen=True)
class Options:
    """Run every benchmark and write a page with tables and plots."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """bundle folders, each a network; the first is served, and embeds the thousands of clips"""
    page: Path = Path("docs/benchmarks.md")
    """the page to write; its pictures lie beside it"""
    out: Path = Path("runs/bench")
    """where each program leaves its files"""
    recordings: Path | None = None
    """measure on sound files of this folder and its subfolders; default: synthesised 44.1 kHz clips of 5 s"""
    full: bool = False
    """more repeats, larger batches and 10,000 clips: an hour in place of minutes"""
    flags: tuple[str, ...] = ()
    """for single programs, after theirs: "peers --rounds 1" "scaling --clips 10" """


def plan(options: Options) -> dict[str, list[str]]:
    """Folder of results -> module and arguments, in order. UsageError: flags for a program that there is not."""
    flags = FULL if options.full else SHORT
    extra: dict[str, list[str]] = {}
    for text in options.flags:
        program, *words = text.split()
        if program not in flags:
            raise UsageError(f"--flags: got {program}; wanted one of {', '.join(flags)}, and its flags")
        extra[program] = words
    bundles = [str(folder) for folder in options.bundles]
    names = [folder.resolve().name for folder in options.bundles]
    if len(set(names)) < len(names):
        raise UsageError(f"BUNDLES: got two of one name ({', '.join(names)}); rename one")
    lines = {"peers": ["peers", *bundles]}
    lines |= {f"latency-{name}": ["latency", bundle] for name, bundle in zip(names, bundles, strict=True)}
    lines |= {"resamplers": ["resamplers", *bundles], "load": ["load"], "training": ["training"]}
    lines["efficiency"] = ["efficiency", *bundles]
    lines["scaling"] = ["scaling", bundles[0]]
    recordings = ["--recordings", str(options.recordings)] if options.recordings else []
    return {
        folder: [program, *arguments, *flags[program].split()]
        + (recordings if program != "efficiency" else [])
        + [*extra.get(program, []), "--out", str(options.out / folder)]
        for folder, (program, *arguments) in lines.items()
    }


def run(words: Sequence[str]) -> dict[str, Any]:
    """Run a benchmark and read its last line. BackendError where it fails; its own words are on stderr."""
    say(f"python -m benchmarks.{' '.join(words)}")
    line = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    # A load that a check found wanting ends with 1, and has its files all the same.
    if done.returncode != 0 and not (words[0] == "load" and done.returncode == 1 and done.stdout):
        raise BackendError(f"benchmarks.{words[0]} ended with {done.returncode}; its own lines stand above")
    *shown, last = done.stdout.splitlines()
    print("\n".join(shown), flush=True)
    return json.loads(last)


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """The address of a server of the bundle on a free port, ended with the block."""
    line = [sys.executable, "-m", "serving", str(bundle), "--port", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            if not first:
                raise BackendError(f"{bundle}: cannot be served; see: python -m serving {bundle}")
            yield json.loads(first)["address"]
        finally:
            process.terminate()


def bench(options: Options) -> dict[str, Any]:
    """Run all, write the page, and return what is printed as JSON."""
    if not options.bundles:
        raise UsageError("BUNDLES: got none; wanted bundle folders, made with: python -m export.onnx")
    for folder in options.bundles:
        open_bundle(folder)
    lines = plan(options)
    make_folder(options.out)
    make_folder(options.page.parent)
    load_before = os.getloadavg()[0]
    if load_before > 0.5:
        say(f"warning: this machine is busy (load average {load_before:.1f}): the numbers will not be for the record")
    results: dict[str, Any] = {}
    for folder, words in lines.items():
        if words[0] == "load":
            with served(options.bundles[0]) as address:
                results[folder] = run([words[0], address, *words[1:]])
        else:
            results[folder] = run(words)
    written = write_page(options.out, options.page)
    return {
        "page": str(options.page),
        "written": [str(path) for path in written],
        "load_average_before": round(load_before, 2),
        "ratios": results["peers"]["ratios"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, bench, "python -m benchmarks.suite", argv)


if __name__ == "__main__":
    raise SystemExit(main())
