"""Export a run folder as a bundle: ONNX files, class vectors, and the parity check against the trained model.

python -m export.onnx runs/first --out bundles/first --precision fp32,fp16,int8
"""

import json
import logging
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.table import Table

from export.graph import OPSET
from export.int8_clips import int8_clips
from export.model_card import model_card
from export.onnx_writer import OnnxWriter
from export.parity.judge import BATCHES, Judge, Model, ParityError, ParityResult
from export.parity.parity_report import parity_record, parity_table, worst_of_each
from export.parity.samples import recording_windows, spread
from export.precision import Quantised
from export.precision_flag import parse_precisions
from export.text_model_writer import name_text_model, refuse_other_encoder, with_text_mean, write_text_model
from export.trained_run import TrainedRun
from serving.bundle.bundle import open_bundle
from serving.bundle.bundle_files import ATTRIBUTION, MANIFEST, MODEL_CARD, PARITY, PRECISIONS, PROBES, ZEROSHOT
from serving.bundle.manifest import Manifest, write_manifest
from serving.command_line import console, run_command, say
from serving.errors import BundleError, DataError
from serving.files.new_folder import new_folder
from serving.text_model.text_source import ENCODERS
from serving.zeroshot.zeroshot_file import parse_zeroshot, write_zeroshot
from training.data.clips import LabelledClip
from training.data.splits import ClipSplit
from training.networks import EMBEDDING_SIZE

MAX_HELD_OUT = 400  # held-out clips that are compared: as many as a fold of ESC-50 has
MAX_TRAINED_ON = 64  # training clips that are compared, if none is held out
MAX_WINDOWS = 128  # of the clips that calibrate INT8, and of those that choose its layers


@dataclass(frozen=True)
class Options:
    """Export a run's embedding network with its front end as an ONNX bundle, and check it against PyTorch."""

    run: Annotated[Path, tyro.conf.Positional]
    """run folder that training.run wrote"""
    out: Path
    """bundle folder to write"""
    precision: str = "fp32"
    """fp32, fp16 and int8, separated by commas; fp32 is always written. int8 needs the training recordings"""
    input: Literal["waveform", "log-mel"] = "waveform"
    """input of the models: waveform [batch, samples], or log-mel [batch, frames, 64] for targets that compute the front
    end themselves"""
    text_model: bool = True
    """the bundle has the text encoder (44 MB), so that a user can type any label offline; with --no-text-model it is
    left out, and that works only where the packages of the extra `text` are installed"""
    data_dir: Path | None = None
    """recordings for the int8 calibration and the parity check; default: the folder of the training"""
    overwrite: bool = False
    """replace an existing bundle"""


def export(options: Options) -> dict[str, Any]:
    """Write the bundle and return the JSON result. ParityError: a file differs too much; nothing is written."""
    asked = parse_precisions(options.precision)
    precisions = [name for name in PRECISIONS if name in {"fp32", *asked}]
    run = TrainedRun.open(options.run)
    if options.text_model:
        refuse_other_encoder(run.config.text)  # fail before the export starts
    clips = _load_clips(run, precisions, options.data_dir)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns about every optional package
    with new_folder(options.out, options.overwrite, MANIFEST) as folder:
        writer = OnnxWriter(run, options.input.replace("-", "_"), folder)
        most = MAX_HELD_OUT if clips and clips.held_out else MAX_TRAINED_ON
        judge = run.judge(clips, most, with_int8="int8" in precisions)
        say(f"exporting {run.config.network.name}, opset {OPSET}")
        results, quantised = _write_models(writer, judge, precisions, clips)
        record = parity_record(judge, results)
        if quantised is not None:
            record["int8"] = {"fp32_layers": quantised.fp32_layers, "alone_in_int8": quantised.effects}
        judge.save_probes(folder / PROBES)
        text_record = _write_class_vectors(folder, run, options.text_model)
        if text_record is not None:
            record["text"] = text_record
        (folder / PARITY).write_text(json.dumps(record, indent=1) + "\n")
        attribution = run.credits(options.data_dir)
        if attribution is not None:
            shutil.copyfile(attribution, folder / ATTRIBUTION)
        manifest = _make_manifest(run, writer.input, precisions, quantised)
        sizes = {
            str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
        }
        (folder / MODEL_CARD).write_text(model_card(manifest, sizes, judge, results))
        write_manifest(folder, manifest)
        _refuse_unopenable(folder, options.out)
    _print_tables(judge, results, sizes, writer.nodes)
    say(f"next: python -m demo {options.out}    (in the browser)")
    say(f"      python -m serving {options.out}    (over HTTP)")
    return {
        "out": str(options.out),
        "network": manifest.network,
        "input": manifest.input,
        "opset": OPSET,
        "nodes": writer.nodes,
        "bytes": sizes,
        "fp32_layers": manifest.fp32_layers,
        "parity": {result.precision: result.as_json() for result in worst_of_each(results)},
    }


def _load_clips(run: TrainedRun, precisions: list[str], data_dir: Path | None) -> ClipSplit | None:
    """Load the run's recordings. None if their folder does not exist; DataError if INT8 needs them."""
    clips = run.clips(data_dir)
    if clips is None:
        if "int8" in precisions:
            raise DataError(
                f"--precision int8: {run.config.data_dir} does not exist, and INT8 is calibrated on the training "
                "recordings; give their folder with --data-dir, or leave int8 out"
            )
        run.warn_that_recordings_are_missing()
    return clips


def _write_models(
    writer: OnnxWriter, judge: Judge, precisions: list[str], clips: ClipSplit | None
) -> tuple[list[ParityResult], Quantised | None]:
    """Write the front end and each precision, and compare each precision with PyTorch."""
    writer.write_front_end()
    results: list[ParityResult] = []
    quantised = None
    for precision in precisions:
        say(f"{precision}: writing the file and comparing it with PyTorch row by row")
        match precision:
            case "fp16":
                samples = judge.samples
                writer.write_fp16(samples.names, samples.windows, samples.n_probes)
            case "int8":
                assert clips is not None
                used = int8_clips(clips)
                parts = (_spread_windows(writer.run, part) for part in (used.calibration, used.choosing))
                quantised = writer.write_int8(*parts)
            case _:
                writer.write_fp32()
        results += _check_parity(judge, writer.runtime(precision), precision)
    return results, quantised


def _spread_windows(run: TrainedRun, clips: Sequence[LabelledClip]) -> NDArray[np.float32]:
    """At most MAX_WINDOWS windows [n, samples] of these clips, spread evenly."""
    windows = np.concatenate([rows for _, rows in recording_windows([clip.path for clip in clips], run.window)])
    return windows[spread(range(len(windows)), MAX_WINDOWS)]


def _check_parity(judge: Judge, runtime: Model, precision: str) -> list[ParityResult]:
    """Compare one file with PyTorch at every batch size. ParityError names the worst row."""
    results = []
    for batch in BATCHES:
        result = judge.judge(runtime, "onnxruntime", precision, batch)
        if result.faults:
            raise ParityError(f"{result.title}: {'; '.join(result.faults)}; nothing was written")
        results.append(result)
    return results


def _write_class_vectors(folder: Path, run: TrainedRun, text_model: bool) -> dict[str, Any] | None:
    """Write zeroshot.npz and folder/text: the text model, or only the name of its encoder.

    returns   how the written text model compares with the original, None if only its name was written
    """
    encoder, zeroshot, record = run.config.text, run.zeroshot, None
    if text_model:
        say(f"text model: {encoder}")
        record = write_text_model(folder, encoder, run.config.class_texts)
        zeroshot = with_text_mean(zeroshot, encoder, run.config.class_texts)
    elif encoder in ENCODERS:
        name_text_model(folder, encoder, run.config.class_texts)
    write_zeroshot(zeroshot, folder / ZEROSHOT)
    return record


def _make_manifest(run: TrainedRun, model_input: str, precisions: list[str], quantised: Quantised | None) -> Manifest:
    config = run.config
    return Manifest(
        network=config.network.name,
        objective=config.objective,
        front_end=asdict(config.front_end),
        window=run.window,
        input=model_input,
        models={precision: PRECISIONS[precision] for precision in precisions},
        fp32_layers=quantised.fp32_layers if quantised else [],
        embedding_size=EMBEDDING_SIZE,
        dataset=config.dataset,
        split=config.split.name,
        run=str(run.folder),
        init=config.init,
        seen_classes=list(config.split.seen),
        scores=run.scores,
        license=config.license,
        git_commit=_git_commit(),
        embedding_space=run.embedding_space,
    )


def _refuse_unopenable(folder: Path, out: Path) -> None:
    """Open the new bundle as serving does. BundleError: it would not open."""
    try:
        bundle = open_bundle(folder)
        for name in bundle.manifest.files:
            if name.endswith(".onnx"):
                bundle.read_graph(name)
        parse_zeroshot(bundle.read(ZEROSHOT), ZEROSHOT, bundle.manifest.embedding_size)
    except BundleError as error:
        reason = str(error).replace(str(folder), str(out)).partition("; export the bundle again")[0]
        raise BundleError(f"serving would refuse the bundle ({reason}); nothing was written") from error


def _git_commit() -> str:
    """The commit of this source tree; "unknown" outside a Git checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _print_tables(judge: Judge, results: Sequence[ParityResult], sizes: dict[str, int], nodes: dict[str, int]) -> None:
    console.print(parity_table(judge, results))
    files = Table(title="bundle", title_justify="left")
    files.add_column("file")
    files.add_column("kB", justify="right")
    files.add_column("nodes", justify="right")
    for name, size in sizes.items():
        files.add_row(name, f"{size / 1000:.1f}", str(nodes.get(name, "")))
    console.print(files)


main = partial(run_command, Options, export, "python -m export.onnx")

if __name__ == "__main__":
    raise SystemExit(main())
