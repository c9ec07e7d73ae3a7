"""Compare every backend and precision that runs on this machine with the trained network in PyTorch, row by row.

python -m export.parity bundles/first --run runs/first
python -m export.parity bundles/first --data-dir recordings/     # without PyTorch and without the run

The reference is the run's network in PyTorch. If torch is not installed or the run does not exist, the reference for
the probes is what PyTorch computed at the export, and for recordings the FP32 file in ONNX Runtime on the CPU.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import tyro

from export.bundle_update import put_files
from export.model_card import model_card
from export.parity.bundle_judge import judge_bundle
from export.parity.judge import BATCHES, Judge, ParityError, ParityResult
from export.parity.parity_report import parity_record, parity_table
from serving.backends.bundle_runtime import open_openvino, with_front_end
from serving.backends.onnxruntime import OnnxRuntime
from serving.backends.runtime import Runtime
from serving.backends.tensorrt import TensorRT, find_engine
from serving.bundle.bundle import Bundle, open_bundle
from serving.bundle.bundle_files import MODEL_CARD, PARITY
from serving.command_line import console, run_command
from serving.cores import usable_cores
from serving.errors import UnheardError, UsageError
from serving.trust_option import Trusted


@dataclass(frozen=True)
class Options:
    """Compare every backend and precision on this machine with the trained network. Exit code 1: a limit is not met."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """bundle folder that export.onnx wrote"""
    run: Path | None = None
    """run folder that was exported; default: the folder named in the bundle, if it exists"""
    data_dir: Path | None = None
    """with a run: its data set, whose test clips are compared (default: the folder of the training); without a run: any
    folder of recordings"""
    clips: int = 80
    """maximum number of recordings, spread evenly over all"""
    update_card: bool = False
    """write the results into the bundle's README.md and parity.json"""
    trust: Trusted = ()


def check_parity(options: Options) -> dict[str, Any]:
    """Compare, print the table, and return the JSON result. ParityError, after both: a limit is not met."""
    if options.clips < 0:
        raise UsageError(f"--clips: got {options.clips}; wanted 0 or more")
    bundle = open_bundle(options.bundle, options.trust)
    judge = judge_bundle(bundle, options.run, options.data_dir, options.clips)
    results: list[ParityResult] = []
    skipped: dict[str, str] = {}
    for backend, precision, make in runtimes(bundle):
        try:
            runtime = make()
        except UnheardError as error:  # not installed, no GPU, no engine
            skipped[f"{backend}, {precision}"] = str(error)
            continue
        results += [judge.judge(runtime, backend, precision, batch) for batch in BATCHES]
    console.print(parity_table(judge, results))
    for title, reason in skipped.items():
        console.print(f"not compared: {title}: {reason}", soft_wrap=True, highlight=False)
    faults = [f"{result.title}: {'; '.join(result.faults)}" for result in results if result.faults]
    record = {"bundle": str(options.bundle), **parity_record(judge, results), "skipped": skipped, "passed": not faults}
    if faults:
        print(json.dumps(record), flush=True)
        more = f" (and {len(faults) - 1} more, see the table)" if len(faults) > 1 else ""
        raise ParityError(f"{options.bundle}: {faults[0]}{more}")
    if options.update_card:
        update_card(bundle, judge, results)
    return record


def runtimes(bundle: Bundle) -> Iterator[tuple[str, str, Callable[[], Runtime]]]:
    """Yield backend, precision and a function that opens the runtime, or raises UnheardError if it cannot run here."""
    threads = usable_cores()
    for precision in bundle.manifest.models:
        yield "onnxruntime", precision, partial(_open_file, bundle, precision, threads, "cpu")
        for provider in ("cuda", "tensorrt"):
            yield f"onnxruntime {provider}", precision, partial(_open_file, bundle, precision, threads, provider)
        yield "openvino", precision, partial(open_openvino, bundle, precision, threads)
        yield "tensorrt", precision, partial(_open_engine, bundle, precision)


def _open_file(bundle: Bundle, precision: str, threads: int, provider: str) -> Runtime:
    return with_front_end(bundle, OnnxRuntime(bundle.model(precision), threads, [provider], strict=True))


def _open_engine(bundle: Bundle, precision: str) -> Runtime:
    return with_front_end(bundle, TensorRT(find_engine(bundle, precision), bundle))


def update_card(bundle: Bundle, judge: Judge, results: Sequence[ParityResult]) -> None:
    """Replace README.md and parity.json of a bundle. UsageError: they cannot be written."""
    manifest = bundle.manifest
    old = json.loads(bundle.path(PARITY).read_bytes())
    record = parity_record(judge, results) | {name: old[name] for name in ("int8", "text") if name in old}
    sizes = {name: file.size for name, file in manifest.files.items()}
    try:
        with TemporaryDirectory(prefix=".new-", dir=bundle.folder) as place:
            new = {name: Path(place) / name for name in (PARITY, MODEL_CARD)}
            new[PARITY].write_text(json.dumps(record, indent=1) + "\n")
            new[MODEL_CARD].write_text(model_card(manifest, sizes, judge, results))
            put_files(bundle, new, overwrite=True)
    except OSError as error:
        raise UsageError(f"--update-card: {bundle.folder} cannot be written ({error.strerror or error})") from error


main = partial(run_command, Options, check_parity, "python -m export.parity")

if __name__ == "__main__":
    raise SystemExit(main())
