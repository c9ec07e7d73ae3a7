"""A run folder: the names of its files, its configuration (config.json), and its network."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import DataError, RunError
from serving.files.new_folder import refuse_unwritable
from serving.log_mel import LogMelConfig
from training.data.class_attributes import Attributes, attribute_columns, attribute_matrix
from training.data.clips import ClipTable
from training.data.splits import ClassSplit, ClipSplit, split_clips
from training.fit.checkpoint import load_tensors, write_text
from training.fit.recipe import Recipe
from training.networks import NETWORKS, WINDOW_FRAMES, Network, NetworkConfig, build_network

CONFIG = "config.json"
WEIGHTS = "weights.safetensors"  # of the best epoch: what is exported
LAST = "last.safetensors"  # of the last epoch, with the optimiser: what --resume continues
METRICS = "metrics.jsonl"  # one line per epoch
ZEROSHOT = "zeroshot.npz"  # the map from embeddings to class vectors
SUMMARY = "summary.json"  # written last: the run has ended
CURVES = "curves.png"
TENSORBOARD = "tensorboard"  # folder of events

EVALUATION = "evaluation"  # folder of training.evaluate, with:
REPORT = "report.json"
REPORT_PAGE = "report.md"
CONFUSION = "confusion.png"
EMBEDDING_MAP = "map.png"
TRADEOFF = "tradeoff.png"
ZERO_SHOT_BARS = "zero-shot.png"
CALIBRATION = "calibration.json"  # of training.calibrate


@dataclass(frozen=True)
class RunConfig:
    """Everything that determines a run. Stored as config.json, from which export and evaluation read it.

    objective          "text" (targets are vectors of class descriptions), "classes" (targets are class numbers), or
                       "whitening" (published features, and an embedding in closed form)
    vocabulary         number of synthesised sounds of the acoustic vocabulary; 0 for none
    vocabulary_epochs  epochs of pretraining on these sounds alone, before the recordings
    validation_share   share of the training clips that is kept to choose the best epoch; 0 for none
    text               the encoder of the class texts, see training.text_encoders
    map                one of training.zeroshot_maps.MAPS; None with the objective "text", which learns its map
    init               name and SHA-256 of the published weights that training started from; None: random weights
    class_texts        what of a class is encoded: one of serving.text_model.text_source.CLASS_TEXTS
    attributes         those of each class, in tenths, see training.data.class_attributes; empty: none
    lexicon            whether the lexicon teaches the map what words mean; older runs had none
    skipped            clips that cannot be read and were left out, relative to the table's root
    clip_digest        `ClipSplit.digest` of the run's own clips; "" in older runs
    """

    dataset: str
    data_dir: str
    split: ClassSplit
    test_fold: int | None
    seed: int
    objective: str
    vocabulary: int
    vocabulary_epochs: int
    validation_share: float
    network: NetworkConfig
    front_end: LogMelConfig
    window_frames: int
    recipe: Recipe
    text: str
    map: str | None
    init: str | None
    classes: list[str]
    license: str
    skipped: list[str] = field(default_factory=list)
    class_texts: str = "description"
    attributes: Attributes = field(default_factory=dict)
    lexicon: bool = False
    clip_digest: str = ""

    def attribute_matrix(self) -> NDArray[np.float32] | None:
        """The attributes of all classes [n_classes, n_attributes], 0 to 1; None if there are none."""
        return attribute_matrix(self.classes, self.attributes) if self.attributes else None

    @property
    def attribute_columns(self) -> list[str]:
        """The names of the columns of `attribute_matrix`; none if there are none."""
        return attribute_columns(self.attributes.values())

    def clips(self, table: ClipTable) -> ClipSplit:
        """The clips to train, validate and test on."""
        return split_clips(self.without_skipped(table), self.split, self.test_fold, self.seed, self.validation_share)

    def own_clips(self, table: ClipTable) -> ClipSplit:
        """The clips that this run trains, validates and tests on. DataError: its folder has others by now."""
        clips = self.clips(table)
        self.refuse_others(clips)
        return clips

    def refuse_others(self, clips: ClipSplit) -> None:
        """DataError: `clips`, as `clips` splits them today, are not those that this run trained on."""
        if self.clip_digest and clips.digest != self.clip_digest:
            raise DataError(
                f"{self.data_dir}: recordings were added, removed or renamed since the training, so it cannot be told "
                "which ones were held back; restore them, or train again"
            )

    def without_skipped(self, table: ClipTable) -> ClipTable:
        """The table without the clips that the run left out."""
        left_out = {table.root / name for name in self.skipped}
        return replace(table, clips=tuple(clip for clip in table.clips if clip.path not in left_out))

    def save(self, run: Path) -> None:
        """Write config.json."""
        write_text(run / CONFIG, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, run: Path) -> "RunConfig":
        """Read a run folder's config.json. RunError if it is missing or is not a run's configuration."""
        path = run / CONFIG
        if not path.is_file():
            raise RunError(f"{path}: is missing, so {run} is not a run folder; make one with: python -m training.run")
        try:
            raw = json.loads(path.read_text())
            nested = {"network": NetworkConfig, "front_end": LogMelConfig, "recipe": Recipe}
            for name, kind in nested.items():
                raw[name] = kind(**raw[name])
            if raw["network"].name not in NETWORKS or raw["window_frames"] != WINDOW_FRAMES[raw["network"].name]:
                raise ValueError(f"network {raw['network'].name} with windows of {raw['window_frames']} frames")
            names = ("seen", "unseen_validation", "unseen_test")
            missing = tuple(raw["split"].get("missing", ()))  # absent in older runs
            split = ClassSplit(raw["split"]["name"], *(tuple(raw["split"][name]) for name in names), missing=missing)
            return cls(**raw | {"split": split})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RunError(f"{path}: not a run's configuration ({error}); train again") from error


def evaluation_folder(run: Path) -> Path:
    """Make the folder of a run's evaluations. UsageError: it cannot be written."""
    folder = run / EVALUATION
    refuse_unwritable(folder, "run")
    folder.mkdir(exist_ok=True)
    return folder


def refuse_unfinished(run: Path) -> None:
    """RunError: the training in this folder did not finish."""
    if not (run / SUMMARY).is_file():
        raise RunError(f"{run}: the training did not finish; continue it with: training.run ... --resume")


def next_export(run: Path) -> str:
    """What comes after the scores, for people."""
    return f"next: python -m export.onnx {run} --out bundles/{run.name}    (a bundle to serve and show)"


def load_network(run: Path, config: RunConfig) -> Network:
    """The run's network with the best epoch's weights, in eval mode. RunError if they are missing or do not fit."""
    tensors, _ = load_tensors(run / WEIGHTS)
    network = build_network(config.network)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise RunError(f"{run / WEIGHTS}: are not {config.network.name}'s weights ({reason}); train again") from error
    return network.eval()
