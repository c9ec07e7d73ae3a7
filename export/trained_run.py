"""A run folder, opened for export: the trained network, its scores, and the recordings that it learned from."""

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
from rich.progress import track

from export.graph import WaveformEmbedder
from export.parity.judge import Reference
from export.parity.samples import Samples
from serving.audio import Window
from serving.command import progress_console
from serving.errors import DataError, RunError
from serving.zeroshot import ZeroShot
from training.config import RunConfig, load_network
from training.data.clips import Clip, load_clips
from training.data.splits import ClipSplit
from training.frontend import LogMel
from training.networks import Network
from training.report import recipe_scores
from training.run import SUMMARY, ZEROSHOT

CREDITS = ("ATTRIBUTION.txt", "LICENSE", "LICENSE.txt")  # in a data set's folder: ESC-10's, ESC-50's and FSC22's


@dataclass(frozen=True)
class Source:
    """What a run folder holds. The network is in eval mode, with its best weights."""

    run: Path
    config: RunConfig
    network: Network
    zeroshot: ZeroShot
    scores: dict[str, float]

    @classmethod
    def open(cls, run: Path) -> "Source":
        """Read a run folder; RunError naming the file that is missing, damaged or of another network."""
        config = RunConfig.load(run)
        return cls(run, config, load_network(run, config), load_zeroshot(run), load_scores(run))

    @property
    def window(self) -> Window:
        """What the network sees at once."""
        return self.config.front_end.network_window(self.config.window_frames)

    @cached_property
    def module(self) -> WaveformEmbedder:
        """The model that every exported file must equal: waveform -> embedding, in FP32."""
        return WaveformEmbedder(LogMel(self.config.front_end), self.network).eval()

    @cached_property
    def embedding_space(self) -> str:
        """One SHA-256 of all that changes the embeddings' numbers: front end, window, network and weights."""
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
        """The file beside the recordings that names their authors, as CC BY asks for; None where there is none."""
        folder = data_dir or Path(self.config.data_dir)
        return next((folder / name for name in CREDITS if (folder / name).is_file()), None)

    def clips(self, data_dir: Path | None) -> ClipSplit | None:
        """The run's recordings, from data_dir or from where they were; None where they are gone from there.

        errors   DataError: the folder is not of the run's data set
        """
        folder = data_dir or Path(self.config.data_dir)
        if data_dir is None and not folder.is_dir():
            return None
        table = load_clips(self.config.dataset, folder)
        if list(table.classes) != self.config.classes:
            raise DataError(f"{folder}: holds other classes than the run was trained with; give its --data-dir")
        return self.config.clips(table)

    def labels(self, clips: Sequence[Clip]) -> list[str]:
        """The clips' classes."""
        return [self.config.classes[clip.label] for clip in clips]

    def reference(self, samples: Samples) -> Reference:
        """PyTorch's own embeddings, one window at a time."""
        windows = [torch.from_numpy(row[None]) for row in samples.windows]
        with torch.inference_mode():
            rows = [self.module(row) for row in track(windows, "PyTorch", console=progress_console, transient=True)]
        embeddings = torch.cat(rows).numpy()
        exact_module = copy.deepcopy(self.module).double()

        @cache
        def rounding(row: int) -> float:  # FP64 is slow, and only few rows need it
            with torch.inference_mode():
                exact = exact_module(windows[row].double()).numpy()
            return float(np.abs(embeddings[row] - exact).max())

        return Reference(f"PyTorch {torch.__version__}, one window at a time", embeddings, rounding)

    def classify(self, embeddings: NDArray[np.float32]) -> list[str]:
        """What the training head calls recordings, from their embeddings [n, 128]: a seen class each."""
        with torch.inference_mode():
            best = self.network.classify(torch.from_numpy(embeddings)).argmax(dim=1)
        return [self.config.split.seen[i] for i in best.tolist()]


def load_zeroshot(run: Path) -> ZeroShot:
    """The run's map to class vectors; RunError where it is missing or cannot be read."""
    try:
        return ZeroShot.load(run / ZEROSHOT)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"{run / ZEROSHOT}: is missing or damaged ({error}); train again") from error


def load_scores(run: Path) -> dict[str, float]:
    """The accuracies of the run's summary.json, and its recipe's scores where training.evaluate measured them.

    errors   RunError: the run did not end, or a file is damaged
    """
    path, report = run / SUMMARY, run / "evaluation" / "report.json"
    if not path.is_file():
        raise RunError(f"{path}: is missing, so the run did not end; continue it with: training.run ... --resume")
    summary = _read(path, "train again")
    # None: a run that kept no clips back for it.
    scores = {name: value for name, value in summary.items() if name.endswith("accuracy") and value is not None}
    if report.is_file():
        again = "delete it, and run training.evaluate again if its scores are wanted"
        scores |= recipe_scores(_read(report, again))
    return scores


def _read(path: Path, again: str) -> dict[str, Any]:
    """A file's JSON object; RunError says what to do where it is damaged."""
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path}: is damaged ({error}); {again}") from error
