"""Turn a run folder into a bundle: ONNX files, class vectors, and the proof that they are the trained model.

python -m export.onnx runs/first --out bundles/first
"""

import copy
import hashlib
import json
import logging
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table

from export.card import model_card
from export.graph import OPSET, WaveformEmbedder, export_graph, fold_batch_norm
from export.parity import BOUNDS, MAX_EXCUSE, ROUNDING_FACTOR, Comparison, compare, excused_rows
from export.probes import probe_windows, recording_windows
from serving.audio import Window
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle import MANIFEST, Manifest, new_folder, write_manifest
from serving.command import console, progress_console, run_command, say
from serving.embedder import usable_cores
from serving.errors import DataError, RunError, UnheardError
from serving.zeroshot import ZeroShot
from training.checkpoint import WEIGHTS, load_tensors
from training.config import RunConfig
from training.data.clips import load_clips
from training.data.splits import split_clips
from training.frontend import LogMel
from training.networks import EMBEDDING_SIZE, Network, build_network
from training.run import SUMMARY, ZEROSHOT

BATCHES = (1, 2, 3, 8)  # an exporter can fix the batch without a word: each file is run at all of these


class ParityError(UnheardError):
    """The exported file is not the model that was trained; nothing is written."""


@dataclass(frozen=True)
class Options:
    """Export the embedding network of a run, with its front end, as an ONNX bundle that proves itself."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run folder that training.run wrote"""
    out: Path
    """the bundle folder to write"""
    data_dir: Path | None = None
    """recordings for the parity check; default: those that the run was trained with"""
    overwrite: bool = False
    """replace an existing bundle"""


def load_network(run: Path, config: RunConfig) -> Network:
    """The run's network with its best weights, in eval mode; RunError where they are missing or do not fit."""
    tensors, _ = load_tensors(run / WEIGHTS)
    network = build_network(config.network)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise RunError(f"{run / WEIGHTS}: are not {config.network.name}'s weights ({reason}); train again") from error
    return network.eval()


def load_zeroshot(run: Path) -> ZeroShot:
    """The run's map to class vectors; RunError where it is missing or cannot be read."""
    try:
        return ZeroShot.load(run / ZEROSHOT)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{run / ZEROSHOT}: is missing or damaged ({error}); train again") from error


def load_scores(run: Path) -> dict[str, float]:
    """The accuracies of the run's summary.json; RunError where the run did not end."""
    path = run / SUMMARY
    if not path.is_file():
        raise RunError(f"{path}: is missing, so the run did not end; continue it with: training.run ... --resume")
    try:
        summary = json.loads(path.read_text())
        return {name: value for name, value in summary.items() if name.endswith("accuracy")}
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: is damaged ({error}); train again") from error


def embedding_space(config: RunConfig, window: Window, network: Network) -> str:
    """One SHA-256 of all that changes the embeddings' numbers: front end, window, network and weights."""
    depends = {"front_end": asdict(config.front_end), "window": asdict(window), "network": config.network.name}
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith("head."):
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def export(options: Options) -> dict[str, Any]:
    """Write the bundle and return what is printed as JSON. ParityError: nothing is written."""
    config = RunConfig.load(options.run)
    network = load_network(options.run, config)
    scores = load_scores(options.run)
    zeroshot = load_zeroshot(options.run)
    window = config.front_end.network_window(config.window_frames)
    log_mel = LogMel(config.front_end).eval()
    module = WaveformEmbedder(log_mel, network).eval()
    space = embedding_space(config, window, network)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of every package that it could use

    with new_folder(options.out, options.overwrite, MANIFEST) as folder:
        facts = {
            "embedding_space": space,
            "network": config.network.name,
            "rate_hz": str(window.rate_hz),
            "window_samples": str(window.samples),
            "license": config.license,
        }
        say(f"exporting {config.network.name}, opset {OPSET}")
        export_graph(log_mel, window, "log_mel", folder / "frontend.onnx", facts)
        graph = export_graph(fold_batch_norm(module), window, "embedding", folder / "embedder.onnx", facts)
        say("comparing with PyTorch, row by row")
        results, sources = _prove(options, config, module, folder, window)
        (folder / "parity.json").write_text(json.dumps(_parity_record(results, sources), indent=1) + "\n")
        zeroshot.save(folder / ZEROSHOT)
        manifest = Manifest(
            network=config.network.name,
            objective=config.objective,
            front_end=asdict(config.front_end),
            window=window,
            embedding_size=EMBEDDING_SIZE,
            dataset=config.dataset,
            split=config.split.name,
            init=config.init,
            seen_classes=list(config.split.seen),
            scores=scores,
            license=config.license,
            git_commit=_git_commit(),
            embedding_space=space,
        )
        (folder / "README.md").write_text(model_card(manifest, results, sources))
        write_manifest(folder, manifest)
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    worst = min(results.values(), key=lambda result: result.worst_cosine)
    _report(results, sizes, len(graph.graph.node))
    return {
        "out": str(options.out),
        "network": config.network.name,
        "opset": OPSET,
        "nodes": len(graph.graph.node),
        "bytes": sizes,
        "parity": {
            "rows": worst.rows,
            "worst_cosine": worst.worst_cosine,
            "worst_cosine_row": worst.worst_cosine_row,
            "worst_difference": max(result.worst_difference for result in results.values()),
            "recordings": sources["recordings"],
            "excused_rows": excused_rows(results.values()),
        },
    }


def _prove(
    options: Options, config: RunConfig, module: torch.nn.Module, folder: Path, window: Window
) -> tuple[dict[int, Comparison], dict[str, int]]:
    """Compare the file in `folder` with the module at every batch size. ParityError names the worst row."""
    names, windows = probe_windows(window)
    sources = {"probes": len(names), "recordings": 0}
    paths = _recordings(options, config)
    if paths:
        more_names, more_windows = recording_windows(paths, window)
        names, windows = names + more_names, np.concatenate([windows, more_windows])
        sources["recordings"] = len(paths)
    with torch.inference_mode():
        rows = track(windows, "PyTorch in FP32 and FP64", console=progress_console, transient=True)
        exact_module = copy.deepcopy(module).double()
        both = [(module(row[None]), exact_module(row[None].double())) for row in map(torch.from_numpy, rows)]
        reference, exact = (torch.cat(parts).numpy() for parts in zip(*both, strict=True))
    rounding = np.abs(reference - exact).max(axis=1)
    runtime = OnnxRuntime(folder / "embedder.onnx", usable_cores(), providers=("CPUExecutionProvider",))
    results = {}
    for batch in BATCHES:
        candidate = _run_in_batches(runtime, windows, batch)
        results[batch] = compare(names, reference, candidate, BOUNDS["fp32"], rounding)
        if not results[batch].passed:
            raise ParityError(f"batch {batch}: {'; '.join(results[batch].faults)}; nothing was written")
    return results, sources


def _run_in_batches(runtime: OnnxRuntime, windows: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    # The last batch is filled with the first rows, so that every call has exactly `batch` rows.
    short = -len(windows) % batch
    filled = np.concatenate([windows, np.resize(windows, (short, windows.shape[1]))]) if short else windows
    rows = [runtime(filled[i : i + batch]) for i in range(0, len(filled), batch)]
    return np.concatenate(rows)[: len(windows)]


def _recordings(options: Options, config: RunConfig) -> list[Path]:
    """The run's test clips, else its validation clips; none, with a warning, where the recordings are gone."""
    folder = options.data_dir or Path(config.data_dir)
    if options.data_dir is None and not folder.is_dir():
        say(f"warning: {folder} is gone, so parity is judged on probes only; give --data-dir")
        return []
    table = load_clips(config.dataset, folder)
    if list(table.classes) != config.classes:
        raise DataError(f"{folder}: holds other classes than the run was trained with; give its --data-dir")
    clips = split_clips(table, config.split, config.test_fold, config.seed)
    return [clip.path for clip in clips.test or clips.validation]


def _parity_record(results: dict[int, Comparison], sources: dict[str, int]) -> dict[str, Any]:
    return {
        "reference": f"PyTorch {torch.__version__}, one window at a time",
        "candidate": "embedder.onnx, ONNX Runtime, CPUExecutionProvider",
        "bound": asdict(BOUNDS["fp32"]) | {"or_rounding_times": ROUNDING_FACTOR, "at_most_bounds": MAX_EXCUSE},
        "rows": sources,
        "by_batch": {str(batch): asdict(result) for batch, result in results.items()},
    }


def _git_commit() -> str:
    """The commit of this program's own checkout, or "unknown" where there is none."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _report(results: dict[int, Comparison], sizes: dict[str, int], nodes: int) -> None:
    table = Table(title=f"parity with PyTorch, worst row first ({nodes} graph nodes)", title_justify="left")
    for column in ("batch", "rows", "worst cosine", "worst |difference|", "worst row"):
        table.add_column(column, justify="left" if column == "worst row" else "right")
    for batch, result in sorted(results.items(), key=lambda item: item[1].worst_cosine):
        table.add_row(
            str(batch),
            str(result.rows),
            f"{result.worst_cosine:.7f}",
            f"{result.worst_difference:.2e}",
            result.worst_difference_row,
        )
    console.print(table)
    files = Table(title="bundle", title_justify="left")
    files.add_column("file")
    files.add_column("kB", justify="right")
    for name, size in sizes.items():
        files.add_row(name, f"{size / 1000:.1f}")
    console.print(files)


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, export, "python -m export.onnx", argv)


if __name__ == "__main__":
    raise SystemExit(main())
