"""Open a run folder for export: the trained network, its scores, and the recordings of the training."""

import copy
import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from export.graph import WaveformEmbedder
from export.int8_clips import without_choosers
from export.parity.judge import Judge, Reference
from export.parity.samples import Samples, collect_samples, spread
from serving.audio import Window
from serving.bundle.bundle_files import ATTRIBUTION
from serving.command_line import say
from serving.errors import DataError, RunError
from serving.progress import track
from serving.zeroshot import ZeroShot
from serving.zeroshot.zeroshot_file import read_zeroshot
from training.data.clips import LabelledClip, data_root, load_clips
from training.data.splits import ClipSplit
from training.evaluation.open_labels import Scores
from training.evaluation.score_report import recipe_scores
from training.log_mel_module import LogMel
from training.networks import Network
from training.run_folder import CALIBRATION, EVALUATION, REPORT, SUMMARY, ZEROSHOT, RunConfig, load_network

CREDITS = (ATTRIBUTION, "LICENSE", "LICENSE.txt")  # names of this file in ESC-10, ESC-50 and FSC22


@dataclass(frozen=True)
class TrainedRun:
    """The contents of a run folder. The network has its best weights and is in eval mode."""

    folder: Path
    config: RunConfig
    network: Network
    zeroshot: ZeroShot
    scores: Scores

    @classmethod
    def open(cls, folder: Path) -> "TrainedRun":
        """Read a run folder. RunError: a file is missing, damaged or of another network."""
        config = RunConfig.load(folder)
        return cls(folder, config, load_network(folder, config), load_zeroshot(folder), load_scores(folder))

    @property
    def window(self) -> Window:
        """The network's input window."""
        return self.config.front_end.network_window(self.config.window_frames)

    @cached_property
    def module(self) -> WaveformEmbedder:
        """The model that every exported file is compared with: waveform -> embedding, in FP32."""
        return WaveformEmbedder(LogMel(self.config.front_end), self.network).eval()

    @cached_property
    def embedding_space(self) -> str:
        """SHA-256 of everything that changes the embeddings: front end, window, network and weights."""
        depends = {
            "front_end": asdict(self.config.front_end),
            "window": asdict(self.window),
            "network": self.config.network.name,
        }
        digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode())
        for name, tensor in sorted(self.network.state_dict().items()):
            if not name.startswith("head."):
                digest.update(name.encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def credits(self, data_dir: Path | None) -> Path | None:
        """The data set's file with the authors of the recordings, which CC BY requires; None if it has no such file."""
        folder = data_root(self.config.dataset, data_dir or Path(self.config.data_dir))
        return next((folder / name for name in CREDITS if (folder / name).is_file()), None)

    def clips(self, data_dir: Path | None) -> ClipSplit | None:
        """The run's recordings, in data_dir or in the folder of the training; None if that folder does not exist.

        errors   DataError: the folder contains another data set
        """
        folder = data_dir or Path(self.config.data_dir)
        if data_dir is None and not folder.is_dir():
            return None
        table = load_clips(self.config.dataset, folder)
        if list(table.classes) != self.config.classes:
            raise DataError(
                f"{folder}: has other classes than the training data; give the run's data set with --data-dir"
            )
        return self.config.clips(table)

    def warn_that_recordings_are_missing(self) -> None:
        """Print a warning that parity is checked on the probes only."""
        say(f"warning: {self.config.data_dir} does not exist, so parity is checked on probes only; give --data-dir")

    def judge(self, clips: ClipSplit | None, most: int, with_int8: bool) -> Judge:
        """A judge that compares runtimes with this network in PyTorch, on the probes and at most `most` clips.

        clips      those that are held out are compared; without any, training clips. None: no clips
        with_int8  an INT8 model is compared too: not on clips that chose its layers, if others are left
        """
        apart = without_choosers(clips) if clips and with_int8 else clips
        on_choosers = clips is not None and apart is None
        clips = apart or clips
        chosen = spread(clips.held_out or clips.train, most) if clips else []
        samples = collect_samples(self.window, [clip.path for clip in chosen], self.labels(chosen))
        trained_on = bool(clips and not clips.held_out)
        return Judge(samples, self.reference(samples), self.zeroshot, self.classify, trained_on, on_choosers)

    def labels(self, clips: Sequence[LabelledClip]) -> list[str]:
        """The class names of clips."""
        return [self.config.classes[clip.label] for clip in clips]

    def reference(self, samples: Samples) -> Reference:
        """Compute embeddings in PyTorch, one window at a time."""
        windows = [torch.from_numpy(row[None]) for row in samples.windows]
        with torch.inference_mode():
            rows = [self.module(row) for row in track(windows, "PyTorch")]
        embeddings = torch.cat(rows).numpy()
        exact_module = copy.deepcopy(self.module).double()

        @cache
        def rounding(row: int) -> float:  # on demand: FP64 is slow and few rows need it
            with torch.inference_mode():
                exact = exact_module(windows[row].double()).numpy()
            return float(np.abs(embeddings[row] - exact).max())

        return Reference(f"PyTorch {torch.__version__}, one window at a time", embeddings, rounding)

    def classify(self, embeddings: NDArray[np.float32]) -> list[str]:
        """Classify embeddings [n, 128] by the training head: one seen class each."""
        with torch.inference_mode():
            best = self.network.classify(torch.from_numpy(embeddings)).argmax(dim=1)
        return [self.config.split.seen[i] for i in best.tolist()]


def load_zeroshot(run: Path) -> ZeroShot:
    """Load the run's map to class vectors. RunError: it is missing or damaged."""
    try:
        return read_zeroshot(run / ZEROSHOT)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{run / ZEROSHOT}: is missing or damaged ({error}); train again") from error


def load_scores(run: Path) -> Scores:
    """Load the accuracies of summary.json, and the scores of training.evaluate and training.calibrate if they ran.

    errors   RunError: the training did not finish, or a file is damaged
    """
    path, report, calibration = run / SUMMARY, run / EVALUATION / REPORT, run / EVALUATION / CALIBRATION
    if not path.is_file():
        raise RunError(
            f"{path}: is missing, so the training did not finish; continue it with: training.run ... --resume"
        )
    summary = _read_json(path, "train again")
    # An accuracy is None if the run held out no clips for it.
    scores: Scores = {name: value for name, value in summary.items() if name.endswith("accuracy") and value is not None}
    if report.is_file():
        again = "delete it, or run training.evaluate again"
        try:
            scores |= recipe_scores(_read_json(report, again))
        except (KeyError, TypeError) as error:
            raise RunError(f"{report}: is damaged ({type(error).__name__} {error}); {again}") from error
    if calibration.is_file():
        again = "delete it, or run training.calibrate again"
        try:
            scores |= _read_json(calibration, again)["scores"]
        except (KeyError, TypeError) as error:
            raise RunError(f"{calibration}: is damaged ({type(error).__name__} {error}); {again}") from error
    return scores


def _read_json(path: Path, way_out: str) -> dict[str, Any]:
    """Read a JSON object. RunError: the file is damaged; way_out says how to continue."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: is damaged ({error}); {way_out}") from error
