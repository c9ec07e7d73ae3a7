"""Choose what the runtimes of a bundle are compared with: the run in PyTorch, or what the bundle stores."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from export.parity.judge import Judge, Reference, run_in_batches
from export.parity.samples import collect_samples, spread
from serving.audio.file_names import SUFFIXES, sound_files
from serving.backends.bundle_runtime import with_front_end
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import PROBES, ZEROSHOT
from serving.command_line import say
from serving.cores import usable_cores
from serving.errors import BundleError, DataError, UnheardError, UsageError
from serving.extras import pip_install
from serving.zeroshot.zeroshot_file import read_zeroshot

if TYPE_CHECKING:
    from export.trained_run import TrainedRun


def judge_bundle(bundle: Bundle, run: Path | None, data_dir: Path | None, max_clips: int) -> Judge:
    """Collect the samples and their reference embeddings, from PyTorch if it is installed and the run exists.

    run        the run folder; None: the folder that the bundle names, if it exists
    data_dir   with a run: its data set; without a run: any folder of recordings
    max_clips  most recordings to compare, spread evenly over all
    errors     UsageError, RunError: `run` cannot be used; DataError: data_dir has no recordings
    """
    trained = _find_run(bundle, run)
    if trained is None:
        return judge_stored(bundle, spread(find_recordings(data_dir), max_clips))
    clips = trained.clips(data_dir)
    if clips is None:
        trained.warn_that_recordings_are_missing()
    return trained.judge(clips, max_clips, with_int8="int8" in bundle.manifest.models)


def _find_run(bundle: Bundle, run: Path | None) -> "TrainedRun | None":
    """Open the bundle's run. None if it cannot be opened and the user did not ask for it; the reason is printed."""
    try:
        return open_run(bundle, run or Path(bundle.manifest.run))
    except UnheardError as error:
        if run:
            raise
        say(f"the reference is what PyTorch computed at the export, because the run cannot be used: {error}")
        return None


def open_run(bundle: Bundle, run: Path) -> "TrainedRun":
    """Open a bundle's run folder.

    errors   UsageError: PyTorch is not installed, or the run has other weights; RunError: missing or damaged
    """
    try:
        from export.trained_run import TrainedRun
    except ModuleNotFoundError as error:
        raise UsageError(f"--run needs {error.name}, which is not installed; {pip_install('train')}") from error
    trained = TrainedRun.open(run)
    if trained.embedding_space != bundle.manifest.embedding_space:
        raise UsageError(f"--run: {run} has other weights than {bundle.folder}; give the run that was exported")
    return trained


def judge_stored(bundle: Bundle, recordings: list[Path]) -> Judge:
    """Compare with PyTorch's stored embeddings of the probes, and with FP32 in ONNX Runtime for recordings."""
    samples = collect_samples(bundle.manifest.window, recordings)
    with np.load(bundle.path(PROBES), allow_pickle=False) as stored:
        if stored["names"].tolist() != samples.names[: samples.n_probes]:
            raise BundleError(
                f"{bundle.folder / PROBES}: the probes are not those of this program version; export the run again"
            )
        embeddings, rounding, name = stored["embeddings"], stored["rounding"].tolist(), str(stored["name"])
    if samples.recordings:
        fp32 = with_front_end(bundle, OnnxRuntime(bundle.model("fp32"), usable_cores(), ["cpu"]))
        rest = run_in_batches(fp32, samples.windows[samples.n_probes :], 1, "onnxruntime, fp32")
        embeddings = np.concatenate([embeddings, rest])
        rounding += [0.0] * len(rest)
        name = f"{name} (probes) and onnxruntime's FP32 on the CPU (recordings)"
    return Judge(samples, Reference(name, embeddings, rounding.__getitem__), read_zeroshot(bundle.path(ZEROSHOT)))


def find_recordings(folder: Path | None) -> list[Path]:
    """All recordings in a folder and its subfolders; [] without a folder. DataError: it contains none."""
    if folder is None:
        return []
    found = sound_files(folder)
    if not found:
        raise DataError(f"--data-dir: {folder} contains no recordings; wanted {', '.join(SUFFIXES)}")
    return found
