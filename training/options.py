"""The flags of training.run, and the run configuration that they ask for."""

from dataclasses import dataclass
from pathlib import Path

import torch

from serving.bundle import record_of
from serving.errors import UsageError
from training.config import RunConfig
from training.data.clips import DATASETS, ClipTable
from training.data.splits import split_classes
from training.frontend import LogMelConfig
from training.loop import Recipe
from training.networks import NETWORKS, WINDOW_FRAMES, NetworkConfig
from training.text import DEFAULT_ENCODER, text_encoder

OBJECTIVE = "classes"  # cross-entropy over the seen classes


@dataclass(frozen=True)
class Options:
    """Train one network on the seen classes of a data set and write a run folder."""

    dataset: str = "ESC-50"
    """ESC-50, ESC-10, FSC22, synthetic, or folder (a folder of class folders)"""
    data_dir: Path | None = None
    """the data set's folder; default: data/DATASET"""
    download: bool = False
    """fetch ESC-50, ESC-10 or FSC22 from its authors' archive first, where it is not there yet"""
    network: str = "yamnet"
    """yamnet, yamnet-compact or vggish"""
    split: str = "all"
    """which classes to train on: all, random, cat0-4, fold0-4 or fold04-34 (ESC-50), train, val or test (FSC22)"""
    unseen: str | None = None
    """classes to keep unseen, by name, with commas between: dog,rain"""
    test_fold: int | None = None
    """the data set's recording fold held out as the test set"""
    out: Path | None = None
    """the run folder; default: runs/DATASET-NETWORK-SPLIT"""
    epochs: int = Recipe.epochs
    """at most this many passes over the training windows"""
    patience: int | None = Recipe.patience
    """stop after this many epochs without a better validation loss; default: never early"""
    batch_size: int = Recipe.batch_size
    """windows in a step"""
    learning_rate: float = Recipe.learning_rate
    """the largest of the one-cycle schedule"""
    weight_decay: float = Recipe.weight_decay
    """AdamW's"""
    dropout: float | None = None
    """probability in the fully connected layers; default: 0.5 for yamnet-compact, 0.2 for the others"""
    mixup: float = Recipe.mixup
    """alpha of the Beta distribution; 0 is none"""
    gain_db: float = Recipe.gain_db
    """largest random gain, either way, in decibels"""
    text: str = DEFAULT_ENCODER
    """text encoder of the class vectors: glove+minilm, glove or minilm"""
    init: Path | None = None
    """start from published weights: torch_audioset's YAMNet or torchvggish's VGGish (.safetensors, .pt, .pth)"""
    seed: int = 0
    """of the split, the weights and all that is random"""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    cache_dir: Path = Path("cache")
    """where log-mels are kept between runs"""
    overwrite: bool = False
    """replace an existing run folder"""
    resume: bool = False
    """continue an interrupted run of the same options"""

    @property
    def recordings(self) -> Path:
        """The data set's folder."""
        return self.data_dir or Path("data") / self.dataset


def check(options: Options) -> None:
    """UsageError for a flag out of its range, with what it takes."""
    if options.dataset not in DATASETS:
        raise UsageError(f"dataset: got {options.dataset}; wanted one of {', '.join(DATASETS)}")
    if options.network not in NETWORKS:
        raise UsageError(f"network: got {options.network}; wanted one of {', '.join(NETWORKS)}")
    text_encoder(options.text)
    largest = float("inf")
    limits = {
        "seed": 0 <= options.seed < 2**32,
        "epochs": options.epochs >= 1,
        "patience": options.patience is None or options.patience >= 1,
        "batch_size": options.batch_size >= 2,
        "learning_rate": 0 < options.learning_rate < largest,
        "weight_decay": 0 <= options.weight_decay < largest,
        "mixup": 0 <= options.mixup < largest,
        "gain_db": 0 <= options.gain_db < 200,
        "dropout": options.dropout is None or 0 <= options.dropout < 1,
    }
    for name, good in limits.items():
        if not good:
            raise UsageError(f"--{name.replace('_', '-')}: got {getattr(options, name)}; see --help for its range")


def choose_device(name: str) -> torch.device:
    """The device of a name; auto takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise UsageError(f"device: got {name}; wanted auto, cpu, cuda or cuda:N")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device: got {name}, which this machine does not have; try --device auto") from error
    return device


def configure(options: Options, table: ClipTable) -> RunConfig:
    """What the run will be made from; UsageError or DataError where the options do not fit the data set."""
    unseen = tuple(name.strip() for name in options.unseen.split(",")) if options.unseen else ()
    classes = split_classes(table, options.split, options.seed, unseen)
    dropout = options.dropout
    if dropout is None:
        dropout = 0.5 if options.network == "yamnet-compact" else 0.2
    return RunConfig(
        dataset=options.dataset,
        data_dir=str(options.recordings.resolve()),
        split=classes,
        test_fold=options.test_fold,
        seed=options.seed,
        objective=OBJECTIVE,
        network=NetworkConfig(options.network, len(classes.seen), dropout),
        front_end=LogMelConfig(),
        window_frames=WINDOW_FRAMES[options.network],
        recipe=Recipe(
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            mixup=options.mixup,
            gain_db=options.gain_db,
            patience=options.patience,
        ),
        text=options.text,
        init=_fingerprint(options.init) if options.init else None,
        classes=list(table.classes),
        license=table.license,
    )


def _fingerprint(path: Path) -> str:
    """A file's name and the beginning of its SHA-256."""
    if not path.is_file():
        raise UsageError(f"--init: {path}: no such file; give published weights, or leave it out")
    return f"{path.name}, sha256 {record_of(path).sha256[:12]}"
