"""Hold every backend and precision that this machine has against PyTorch, row by row.

python -m export.parity bundles/first --run runs/first
python -m export.parity bundles/first --data-dir recordings/     # without PyTorch or the run

The reference is the run's own network in PyTorch. Where torch or the run is not there, it is what PyTorch gave for the
probes when the bundle was written, and the FP32 file on ONNX Runtime's CPU for recordings.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from rich.table import Table

from export.card import model_card
from export.proof import BATCHES, Judge, ParityError, Proof, Reference, run_in_batches
from export.record import PARITY, parity_record, proof_table
from export.samples import collect_samples, spread
from serving.backends.choose import for_waveforms, open_openvino
from serving.backends.onnxruntime import OnnxRuntime
from serving.backends.runtime import Runtime
from serving.backends.tensorrt import TensorRT, find_engine
from serving.bundle import MANIFEST, Bundle, new_folder, open_bundle, write_manifest
from serving.command import console, run_command, say
from serving.cores import usable_cores
from serving.errors import BundleError, DataError, UnheardError, UsageError
from serving.formats.names import SUFFIXES, sound_files
from serving.probes import PROBES
from serving.zeroshot import ZeroShot

if TYPE_CHECKING:
    from export.source import Source

CPU = "onnxruntime"


@dataclass(frozen=True)
class Options:
    """Compare every backend and precision on this machine with the trained network; exit 1 where a bound is broken."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle folder that export.onnx wrote"""
    run: Path | None = None
    """the run folder it was made from; default: the one named in the bundle, where it is still there"""
    data_dir: Path | None = None
    """with a run: its data set, of which the test clips are taken (default: where it was); without: recordings"""
    clips: int = 80
    """at most so many recordings, evenly from all"""
    update_card: bool = False
    """write the results into the bundle's README.md and parity.json"""


def check(options: Options) -> dict[str, Any]:
    """Compare, print, and return what is printed as JSON. ParityError, after both: a bound is broken."""
    if options.clips < 0:
        raise UsageError(f"--clips: got {options.clips}; wanted 0 or more")
    bundle = open_bundle(options.bundle)
    judge = make_judge(options, bundle)
    proofs: list[Proof] = []
    skipped: dict[str, str] = {}
    for backend, precision, make in runtimes(bundle):
        try:
            runtime = for_waveforms(bundle, make())
        except UnheardError as error:  # not installed, no GPU, no engine
            skipped[f"{backend}, {precision}"] = str(error)
            continue
        proofs += [judge.prove(runtime, backend, precision, batch) for batch in BATCHES]
    console.print(proof_table(judge, proofs))
    if skipped:
        console.print(_skipped_table(skipped))
    faults = [f"{proof.title}: {'; '.join(proof.faults)}" for proof in proofs if proof.faults]
    result = {"bundle": str(options.bundle), **parity_record(judge, proofs), "skipped": skipped, "passed": not faults}
    if faults:
        print(json.dumps(result), flush=True)
        more = f" (and {len(faults) - 1} more, see the table)" if len(faults) > 1 else ""
        raise ParityError(f"{options.bundle}: {faults[0]}{more}")
    if options.update_card:
        update_card(bundle, judge, proofs)
    return result


def make_judge(options: Options, bundle: Bundle) -> Judge:
    """The samples and what they are compared with: PyTorch where it and the run are there."""
    source = find_run(options, bundle)
    if source is None:
        return _judge_without_run(options, bundle)
    clips = source.clips(options.data_dir)
    if clips is None:
        say(f"warning: {source.config.data_dir} is gone, so parity is judged on probes only; give --data-dir")
    some = spread(clips.test or clips.validation or clips.train, options.clips) if clips else []
    samples = collect_samples(source.window, [clip.path for clip in some], source.labels(some))
    return Judge(samples, source.reference(samples), source.zeroshot, source.classify)


def find_run(options: Options, bundle: Bundle) -> "Source | None":
    """The bundle's run, where it and PyTorch are there; otherwise None, with the reason on stderr.

    errors   as `open_run`, where --run asks for it
    """
    try:
        return open_run(options.run or Path(bundle.manifest.run), bundle)
    except UnheardError as error:
        if options.run:
            raise
        say(f"compared with what PyTorch gave at the export, not with the run: {error}")
        return None


def open_run(run: Path, bundle: Bundle) -> "Source":
    """A run folder; UsageError: no PyTorch, or another run than the bundle's; RunError: missing or damaged."""
    try:
        from export.source import Source
    except ModuleNotFoundError as error:
        raise UsageError(f'--run needs {error.name}, which is not installed; pip install "unheard[train]"') from error
    source = Source.open(run)
    if source.embedding_space != bundle.manifest.embedding_space:
        raise UsageError(f"--run: {run} has other weights than {bundle.folder} was made from; give that one's run")
    return source


def _judge_without_run(options: Options, bundle: Bundle) -> Judge:
    window = bundle.manifest.window
    samples = collect_samples(window, spread(find_recordings(options.data_dir), options.clips))
    with np.load(bundle.path(PROBES), allow_pickle=False) as stored:
        if stored["names"].tolist() != samples.names[: samples.n_probes]:
            raise BundleError(f"{bundle.folder / PROBES}: holds other probes than this program's; export the run again")
        embeddings, rounding, name = stored["embeddings"], stored["rounding"].tolist(), str(stored["name"])
    if samples.counts:
        fp32 = for_waveforms(bundle, OnnxRuntime(bundle.model("fp32"), usable_cores(), ["cpu"]))
        rest = run_in_batches(fp32, samples.windows[samples.n_probes :], 1, f"{CPU}, fp32")
        embeddings = np.concatenate([embeddings, rest])
        rounding += [0.0] * len(rest)
        name = f"{name} (probes) and {CPU}'s FP32 on the CPU (recordings)"
    return Judge(samples, Reference(name, embeddings, rounding.__getitem__), ZeroShot.load(bundle.path("zeroshot.npz")))


def find_recordings(folder: Path | None) -> list[Path]:
    """Every recording in a folder and below; none without a folder. DataError: it holds none."""
    if folder is None:
        return []
    found = sound_files(folder)
    if not found:
        raise DataError(f"--data-dir: {folder} holds no recordings; wanted {', '.join(SUFFIXES)}")
    return found


def runtimes(bundle: Bundle) -> Iterator[tuple[str, str, Callable[[], Runtime]]]:
    """Backend, precision, and what opens it; opening raises UnheardError where this machine has not what it takes."""
    threads = usable_cores()
    for precision in bundle.manifest.models:
        path = bundle.model(precision)
        yield CPU, precision, partial(OnnxRuntime, path, threads, ["cpu"])
        for provider in ("cuda", "tensorrt"):
            yield f"{CPU} {provider}", precision, partial(OnnxRuntime, path, threads, [provider], strict=True)
        yield "openvino", precision, partial(open_openvino, bundle, precision, threads)
        yield "tensorrt", precision, partial(_open_engine, bundle, precision)


def _open_engine(bundle: Bundle, precision: str) -> Runtime:
    return TensorRT(find_engine(bundle, precision), bundle)


def update_card(bundle: Bundle, judge: Judge, proofs: Sequence[Proof]) -> None:
    """Write README.md and parity.json anew, and the manifest with their hashes: the folder is exchanged whole."""
    manifest = bundle.manifest
    old = json.loads(bundle.path(PARITY).read_bytes())
    record = parity_record(judge, proofs) | {name: old[name] for name in ("int8",) if name in old}
    sizes = {name: file.size for name, file in manifest.files.items()}
    with new_folder(bundle.folder, overwrite=True, marker=MANIFEST) as folder:
        shutil.copytree(bundle.folder, folder, dirs_exist_ok=True)
        (folder / PARITY).write_text(json.dumps(record, indent=1) + "\n")
        (folder / "README.md").write_text(model_card(manifest, sizes, judge, proofs))
        write_manifest(folder, manifest, manifest.files)  # engines have side-cars of their own


def _skipped_table(skipped: dict[str, str]) -> Table:
    grid = Table(title="not compared", title_justify="left")
    grid.add_column("runtime")
    grid.add_column("because")
    for title, reason in skipped.items():
        grid.add_row(title, reason)
    return grid


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, check, "python -m export.parity", argv)


if __name__ == "__main__":
    raise SystemExit(main())
