"""Turn a run folder into a bundle: ONNX files, class vectors, and the proof that they are the trained model.

python -m export.onnx runs/first --out bundles/first --precision fp32,fp16,int8
"""

import json
import logging
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.table import Table

from export.card import ATTRIBUTION, model_card
from export.graph import OPSET
from export.models import ModelFiles
from export.proof import BATCHES, Judge, ParityError, Proof, Runtime
from export.record import PARITY, parity_record, proof_table, worst_of_each
from export.samples import collect_samples, recording_windows, spread
from export.source import Source
from export.text import name_text_model, refuse_other_encoder, with_text_mean, write_text_model
from serving.bundle import MANIFEST, PRECISIONS, Manifest, new_folder, write_manifest
from serving.command import console, run_command, say
from serving.errors import DataError, UsageError
from serving.probes import PROBES
from serving.text import ENCODERS
from training.data.clips import Clip
from training.data.splits import ClipSplit
from training.networks import EMBEDDING_SIZE
from training.run import ZEROSHOT

MOST_CLIPS = 64  # evenly from all classes: to calibrate INT8 with, and to judge it on from training and validation
MOST_WINDOWS = 128  # of either


@dataclass(frozen=True)
class Options:
    """Export the embedding network of a run, with its front end, as an ONNX bundle that proves itself."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder that training.run wrote"""
    out: Path
    """the bundle folder to write"""
    precision: str = "fp32"
    """fp32, fp16 and int8, with commas between; fp32 is always written. int8 needs the training recordings"""
    input: Literal["waveform", "log-mel"] = "waveform"
    """what the models take: waveform [batch, samples], or the front end's log-mel [batch, frames, 64], for targets
    that compute it themselves"""
    text_model: bool = True
    """put the text encoder into the bundle (43 MB), so that any label can be typed offline; with --no-text-model, only
    where the packages of the extra `text` are installed"""
    data_dir: Path | None = None
    """recordings to calibrate int8 and to prove parity with; default: those that the run was trained with"""
    overwrite: bool = False
    """replace an existing bundle"""


def parse_precisions(text: str) -> list[str]:
    """Read "fp32,int8": the precisions in the order of PRECISIONS, fp32 always; UsageError for an unknown one."""
    names = {name.strip() for name in text.split(",")}
    if not names <= set(PRECISIONS):
        raise UsageError(f"--precision: got {text}; wanted one or more of {', '.join(PRECISIONS)}, with commas between")
    return [name for name in PRECISIONS if name in names | {"fp32"}]


def export(options: Options) -> dict[str, Any]:
    """Write the bundle and return what is printed as JSON. ParityError: nothing is written."""
    precisions = parse_precisions(options.precision)
    source = Source.open(options.run)
    config = source.config
    if options.text_model:
        refuse_other_encoder(config.text)  # before the work, not after
    clips = source.clips(options.data_dir)
    if clips is None:
        if "int8" in precisions:
            raise DataError(
                f"--precision int8: {config.data_dir} is gone, and INT8 is calibrated on the training recordings; "
                "give their folder with --data-dir, or leave int8 out"
            )
        say(f"warning: {config.data_dir} is gone, so parity is judged on probes only; give --data-dir")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of every package that it could use
    with new_folder(options.out, options.overwrite, MANIFEST) as folder:
        files = ModelFiles(source, options.input.replace("-", "_"), folder)
        judge = _judge(source, clips)
        say(f"exporting {config.network.name}, opset {OPSET}")
        files.write_front_end()
        proofs: list[Proof] = []
        quantised = None
        for precision in precisions:
            say(f"{precision}: writing, and comparing with PyTorch row by row")
            match precision:
                case "fp16":
                    files.write_fp16()
                case "int8":
                    assert clips is not None
                    quantised = files.write_int8(*_int8_windows(source, clips))
                case _:
                    files.write_fp32()
            proofs += _prove(judge, files.runtime(precision), precision)
        record = parity_record(judge, proofs)
        if quantised is not None:
            record["int8"] = {"fp32_layers": quantised.fp32_layers, "alone_in_int8": quantised.effects}
        judge.save_probes(folder / PROBES)
        zeroshot = source.zeroshot
        if options.text_model:
            say(f"text model: {config.text}")
            record["text"] = write_text_model(folder, config.text)
            zeroshot = with_text_mean(zeroshot, config.text)
        elif config.text in ENCODERS:
            name_text_model(folder, config.text)
            if zeroshot.text_mean is None:  # a run from before runs kept it
                try:
                    zeroshot = with_text_mean(zeroshot, config.text)
                except DataError as error:
                    say(f"warning: no labels can be typed: {error}")
        (folder / PARITY).write_text(json.dumps(record, indent=1) + "\n")
        zeroshot.save(folder / ZEROSHOT)
        credits = source.credits(options.data_dir)
        if credits is not None:
            shutil.copyfile(credits, folder / ATTRIBUTION)
        manifest = Manifest(
            network=config.network.name,
            objective=config.objective,
            front_end=asdict(config.front_end),
            window=source.window,
            input=files.input,
            models={precision: PRECISIONS[precision] for precision in precisions},
            fp32_layers=quantised.fp32_layers if quantised else [],
            embedding_size=EMBEDDING_SIZE,
            dataset=config.dataset,
            split=config.split.name,
            run=str(options.run),
            init=config.init,
            seen_classes=list(config.split.seen),
            scores=source.scores,
            license=config.license,
            git_commit=_git_commit(),
            embedding_space=source.embedding_space,
        )
        trained_on = clips is not None and not (clips.test or clips.validation)
        sizes = {
            str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()
        }
        (folder / "README.md").write_text(model_card(manifest, sizes, judge, proofs, trained_on))
        write_manifest(folder, manifest)
    _report(judge, proofs, sizes, files.nodes)
    return {
        "out": str(options.out),
        "network": config.network.name,
        "input": files.input,
        "opset": OPSET,
        "nodes": files.nodes,
        "bytes": sizes,
        "fp32_layers": manifest.fp32_layers,
        "parity": {proof.precision: proof.record() for proof in worst_of_each(proofs)},
    }


def _judge(source: Source, clips: ClipSplit | None) -> Judge:
    """The probes and the run's test clips, else its validation clips, else as many of its training clips."""
    some = []
    if clips is not None:
        some = clips.test or clips.validation or spread(clips.train, MOST_CLIPS)
    samples = collect_samples(source.window, [clip.path for clip in some], source.labels(some))
    return Judge(samples, source.reference(samples), source.zeroshot, source.classify)


def _int8_windows(source: Source, clips: ClipSplit) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windows [n, samples] of training clips to calibrate INT8 on, and of other training and validation clips.

    What the network was fitted to moves less than what it was not: layers are judged on validation clips too. No test
    clip is among either.
    """
    train, validation = (sorted(part, key=lambda clip: clip.label) for part in (clips.train, clips.validation))
    some = spread(train, 2 * MOST_CLIPS)
    others = (some[1::2] or some) + spread(validation, MOST_CLIPS)
    return _some_windows(source, some[::2]), _some_windows(source, others)


def _some_windows(source: Source, clips: Sequence[Clip]) -> NDArray[np.float32]:
    windows = np.concatenate(list(recording_windows([clip.path for clip in clips], source.window)))
    return windows[spread(range(len(windows)), MOST_WINDOWS)]


def _prove(judge: Judge, runtime: Runtime, precision: str) -> list[Proof]:
    """Compare one file with PyTorch at every batch size. ParityError names the worst row."""
    proofs = []
    for batch in BATCHES:
        proof = judge.prove(runtime, "onnxruntime", precision, batch)
        if proof.faults:
            raise ParityError(f"{proof.title}: {'; '.join(proof.faults)}; nothing was written")
        proofs.append(proof)
    return proofs


def _git_commit() -> str:
    """The commit of this program's own checkout, or "unknown" where there is none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _report(judge: Judge, proofs: Sequence[Proof], sizes: dict[str, int], nodes: dict[str, int]) -> None:
    console.print(proof_table(judge, proofs))
    files = Table(title="bundle", title_justify="left")
    files.add_column("file")
    files.add_column("kB", justify="right")
    files.add_column("nodes", justify="right")
    for name, size in sizes.items():
        files.add_row(name, f"{size / 1000:.1f}", str(nodes.get(name, "")))
    console.print(files)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, export, "python -m export.onnx", argv)


if __name__ == "__main__":
    raise SystemExit(main())
