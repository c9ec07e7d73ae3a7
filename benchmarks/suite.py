"""Run every benchmark and write the page of results.

    python -m benchmarks.suite bundles/yamnet bundles/yamnet-compact bundles/vggish
    make bench

Each benchmark runs in a process of its own, one after the other. Nothing else should run on the machine meanwhile.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.inputs import input_clips, open_bundles
from benchmarks.results_page import collect_records, write_results
from benchmarks.study import make_folder
from serving.command_line import run_command, say
from serving.errors import BackendError, UsageError

# Benchmark -> its flags in a short run, a few minutes on two cores, and in a full one.
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
    """Run every benchmark and write a page with tables and figures."""

    bundles: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """bundle folders, each with another network; the first is served and embeds the thousands of clips"""
    page: Path = Path("docs/results/benchmarks.md")
    """the page to write; its CSV, JSON and figures go beside it"""
    out: Path = Path("runs/bench")
    """folder for the files of each benchmark"""
    recordings: Path | None = None
    """measure on sound files of this folder and its subfolders; default: synthesised 44.1 kHz clips of 5 s"""
    full: bool = False
    """more repeats, larger batches and 10,000 clips: an hour instead of minutes"""
    flags: tuple[str, ...] = ()
    """flags for single benchmarks, after their own: "peers --rounds 1" "scaling --clips 10" """


def plan_runs(options: Options) -> dict[str, list[str]]:
    """Folder of results -> benchmark and arguments, in order. UsageError: flags for an unknown benchmark."""
    flags = FULL if options.full else SHORT
    extra: dict[str, list[str]] = {}
    for text in options.flags:
        benchmark, *words = text.split() or [""]
        if benchmark not in flags:
            raise UsageError(f"--flags: got {text!r}; wanted one of {', '.join(flags)}, and its flags")
        extra.setdefault(benchmark, []).extend(words)
    bundles = [str(folder) for folder in options.bundles]
    names = [folder.resolve().name for folder in options.bundles]
    if len(set(names)) < len(names):
        raise UsageError(f"BUNDLES: got two of one name ({', '.join(names)}); rename one")
    runs = {"peers": ["peers", *bundles]}
    runs |= {f"latency-{name}": ["latency", bundle] for name, bundle in zip(names, bundles, strict=True)}
    runs |= {"resamplers": ["resamplers", *bundles], "load": ["load"], "training": ["training"]}
    runs |= {"efficiency": ["efficiency", *bundles], "scaling": ["scaling", bundles[0]]}
    recordings = ["--recordings", str(options.recordings)] if options.recordings else []
    return {
        folder: [benchmark, *arguments, *flags[benchmark].split()]
        + (recordings if benchmark != "efficiency" else [])
        + [*extra.get(benchmark, []), "--out", str(options.out / folder)]
        for folder, (benchmark, *arguments) in runs.items()
    }


def run_benchmark(words: Sequence[str]) -> dict[str, Any]:
    """Run a benchmark and parse its last line. BackendError: it fails; its own message is on stderr."""
    say(f"python -m benchmarks.{' '.join(words)}")
    line = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:]]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    # 1 from load means that a check failed; its files are complete.
    if done.returncode != 0 and not (words[0] == "load" and done.returncode == 1 and done.stdout):
        raise BackendError(f"benchmarks.{words[0]} ended with {done.returncode}; see its message above")
    *shown, last = done.stdout.splitlines()
    print("\n".join(shown), flush=True)
    return json.loads(last)


@contextmanager
def served(bundle: Path) -> Iterator[str]:
    """The address of a server of the bundle on a free port; the server stops with the block."""
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


def run_suite(options: Options) -> dict[str, Any]:
    """Run all benchmarks, write the page, and return what is printed as JSON."""
    open_bundles(options.bundles)
    if options.recordings is not None:
        input_clips(options.recordings, 1, most=1)
    runs = plan_runs(options)
    if options.page.is_dir() or options.page.suffix != ".md":
        raise UsageError(f"--page: got {options.page}; wanted the path of a page, such as {Options.page}")
    make_folder(options.page.parent, "--page")
    make_folder(options.out)
    load_before = os.getloadavg()[0]
    if load_before > 0.5:
        say(f"warning: this machine is busy (load average {load_before:.1f}): these times may be too long")
    results: dict[str, Any] = {}
    for folder, (benchmark, *arguments) in runs.items():
        if benchmark == "load":
            with served(options.bundles[0]) as address:
                results[folder] = run_benchmark([benchmark, address, *arguments])
        else:
            results[folder] = run_benchmark([benchmark, *arguments])
    written = write_results(collect_records(results), options.page)
    return {
        "page": str(options.page),
        "written": [str(path) for path in written],
        "load_average_before": round(load_before, 2),
        "ratios": results["peers"]["ratios"],
    }


main = partial(run_command, Options, run_suite, "python -m benchmarks.suite")

if __name__ == "__main__":
    raise SystemExit(main())
