"""The flags of training.run, and the run configuration that they ask for."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from serving.errors import UsageError
from serving.label_text import split_labels
from training.config import RunConfig
from training.data.class_descriptions import describe_class
from training.data.clips import DATASETS, ClipTable
from training.data.splits import VALIDATION_SHARE, split_classes
from training.fit.objectives import MIXINGS
from training.fit.recipe import Compute, Recipe
from training.networks import NETWORKS, WINDOW_FRAMES, NetworkConfig
from training.pretrained import front_end_of, identify
from training.text_encoders import DEFAULT_ENCODER, full_name, text_encoder
from training.zeroshot_maps import LAMBDAS

LOW_RATE = 1e-3  # for weights that the vocabulary has taught already, and for vggish's fully connected ones
OBJECTIVES = ("text", "classes")
TEXT = Recipe(epochs=8)  # what a finish would do for it: docs/zero-shot.md
CLASSES = {
    "yamnet": Recipe(epochs=96, finishing=16, mixing="sound"),
    "yamnet-compact": Recipe(epochs=88, finishing=8),
    "vggish": Recipe(epochs=11, finishing=1),  # of its short windows an epoch has five from each clip
}
VOCABULARY = 1500
VOCABULARY_EPOCHS = 12


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """What to train on."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    precision: str = "auto"
    """fp32, or mixed with bf16 or fp16; auto: mixed on a GPU, fp32 on a CPU"""
    compile: bool = False
    """let torch.compile fuse the network (needs a C++ compiler)"""


@dataclass(frozen=True, kw_only=True)
class Options(MachineOptions):
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
    """classes to keep unseen, by name, with commas between: dog,rain; a name may stand in double quotes"""
    test_fold: int | None = None
    """the data set's recording fold held out as the test set"""
    out: Path | None = None
    """the run folder; default: runs/DATASET-NETWORK-SPLIT"""
    objective: str = "text"
    """text: targets made of class descriptions, for unseen classes; classes: class numbers, for seen ones"""
    vocabulary: int | None = None
    """synthesised sounds with descriptions that are learned before the recordings, with --objective text beside them
    too; 0: none; default: 1500, with --objective classes none for vggish"""
    vocabulary_epochs: int = VOCABULARY_EPOCHS
    """passes over the vocabulary alone, before the recordings"""
    validation_share: float = VALIDATION_SHARE
    """of the training clips, kept to choose the best epoch (0 to 0.5); 0: train on all, keep the last epoch"""
    epochs: int | None = None
    """at most this many passes over the training windows; default: 8, with --objective classes 96 (yamnet-compact 88,
    vggish 11)"""
    finishing_epochs: int | None = None
    """the last of them, on whole windows without mixup; default with --objective classes: one in 6 (yamnet-compact and
    vggish 11), else 0"""
    patience: int | None = Recipe.patience
    """stop after this many epochs without a better validation loss; default: never early"""
    batch_size: int = Recipe.batch_size
    """windows of recordings in a step; with --objective text as many sounds of the vocabulary are added"""
    learning_rate: float | None = None
    """the largest of the one-cycle schedule; default: 0.002, with a vocabulary, --objective text or vggish 0.001"""
    weight_decay: float = Recipe.weight_decay
    """AdamW's"""
    dropout: float | None = None
    """probability in the fully connected layers; default: 0.5 for yamnet-compact, 0.2 for the others"""
    mixup: float = Recipe.mixup
    """alpha of the Beta distribution; 0 is none"""
    mixing: str | None = None
    """what mixup mixes: log-mel, or sound (magnitudes, made equally loud); default: sound for yamnet with --objective
    classes, else log-mel"""
    gain_db: float = Recipe.gain_db
    """largest random gain, either way, in decibels"""
    text: str = DEFAULT_ENCODER
    """encoder of the class texts: glove+minilm, glove, minilm, word2vec:FILE or sentence:FOLDER_OR_NAME"""
    map: str | None = None
    """with --objective classes: the closed-form map to the class vectors, ridge or eszsl; default: ridge"""
    init: Path | None = None
    """start from published weights: Google's yamnet.h5 or yamnet.tflite, torch_audioset's YAMNet or torchvggish's
    VGGish (.safetensors, .pt, .pth); from YAMNet's, the front end adds 0.001 before the log as they heard it, else 0.01
    """
    skip_unreadable: bool = False
    """leave out recordings that cannot be read, instead of stopping with a list of them"""
    seed: int = 0
    """of the split, the weights and all that is random"""
    cache_dir: Path = Path("cache")
    """where log-mels are kept between runs"""
    overwrite: bool = False
    """replace an existing run folder"""
    resume: bool = False
    """continue an interrupted run of the same options"""

    @property
    def sounds(self) -> int:
        """How many of the vocabulary are learned."""
        if self.vocabulary is not None:
            return self.vocabulary
        # vggish takes minutes for each epoch of them, and whether class numbers gain by that was not measured.
        return 0 if self.objective == "classes" and self.network == "vggish" else VOCABULARY

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
    if options.objective not in OBJECTIVES:
        raise UsageError(f"objective: got {options.objective}; wanted one of {', '.join(OBJECTIVES)}")
    if options.map is not None and options.map not in LAMBDAS:
        raise UsageError(f"--map: got {options.map}; wanted one of {', '.join(LAMBDAS)}")
    if options.map is not None and options.objective == "text":
        raise UsageError(
            f"--map: got {options.map}, but with --objective text the network learns its own projection onto the class "
            "vectors; leave --map out, or give --objective classes"
        )
    if options.mixing is not None and options.mixing not in MIXINGS:
        raise UsageError(f"--mixing: got {options.mixing}; wanted one of {', '.join(MIXINGS)}")
    text_encoder(options.text)
    if options.resume and options.overwrite:
        raise UsageError("--resume goes on with a run and --overwrite begins it anew; give one of them")
    recipe, share, largest = recipe_of(options), options.validation_share, float("inf")
    limits = {
        "seed": (0 <= options.seed < 2**32, "0 to 4294967295"),
        "epochs": (recipe.epochs >= 1, "1 or more"),
        "finishing_epochs": (0 <= recipe.finishing < recipe.epochs, f"0 to {recipe.epochs - 1}, fewer than --epochs"),
        "patience": (options.patience is None or options.patience >= 1, "1 or more"),
        "batch_size": (recipe.batch_size >= 2, "2 or more"),
        "learning_rate": (0 < recipe.learning_rate < largest, "a positive number"),
        "weight_decay": (0 <= options.weight_decay < largest, "0 or more"),
        "mixup": (0 <= options.mixup < largest, "0 or more"),
        "gain_db": (0 <= options.gain_db < 200, "0 to 200"),
        "vocabulary": (options.sounds == 0 or options.sounds >= 2, "0, or 2 or more"),
        "vocabulary_epochs": (options.vocabulary_epochs >= 1, "1 or more"),
        "validation_share": (share == 0 or 0.02 <= share <= 0.5, "0, or 0.02 to 0.5"),
        "dropout": (options.dropout is None or 0 <= options.dropout < 1, "0 to less than 1"),
    }
    for name, (good, wanted) in limits.items():
        if not good:
            raise UsageError(f"--{name.replace('_', '-')}: got {getattr(options, name)}; wanted {wanted}")


def recipe_of(options: Options) -> Recipe:
    """The objective's recipe, with what the flags say otherwise."""
    recipe = TEXT if options.objective == "text" else CLASSES[options.network]
    if options.network == "vggish":  # whose fully connected layers want the whole window
        recipe = replace(recipe, crop=1.0)
    if options.sounds or options.network == "vggish":
        recipe = replace(recipe, learning_rate=LOW_RATE)
    epochs = recipe.epochs if options.epochs is None else options.epochs
    finishing = epochs * recipe.finishing // recipe.epochs
    return Recipe(
        epochs=epochs,
        finishing=finishing if options.finishing_epochs is None else options.finishing_epochs,
        batch_size=options.batch_size,
        learning_rate=recipe.learning_rate if options.learning_rate is None else options.learning_rate,
        weight_decay=options.weight_decay,
        mixup=options.mixup,
        mixing=options.mixing or recipe.mixing,
        gain_db=options.gain_db,
        crop=recipe.crop,
        patience=options.patience,
    )


PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_machine(options: MachineOptions) -> Compute:
    """Device and precision; auto mixes precision where the device is made for it."""
    if options.precision not in PRECISIONS:
        raise UsageError(f"precision: got {options.precision}; wanted one of {', '.join(PRECISIONS)}")
    device = choose_device(options.device)
    dtype = PRECISIONS[options.precision]
    if dtype is None:
        mixed = torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float16
        dtype = mixed if device.type == "cuda" else torch.float32
    return Compute(device, dtype, options.compile)


def choose_device(name: str) -> torch.device:
    """The device of a name; auto takes a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda") or name.startswith("cpu:"):
            raise UsageError(f"device: got {name}; wanted auto, cpu, cuda or cuda:N")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device: got {name}, which this machine does not have; try --device auto") from error
    return device


def configure(options: Options, table: ClipTable) -> RunConfig:
    """What the run will be made from; UsageError or DataError where the options do not fit the data set."""
    unseen = tuple(split_labels(options.unseen or "", table.classes, flag="--unseen"))
    if options.unseen is not None and not unseen:
        raise UsageError("--unseen: names no class; give class names with commas between, or leave it out")
    classes = split_classes(table, options.split, options.seed, unseen)
    text_size = 0
    if options.objective == "text":
        text_size = text_encoder(options.text)([describe_class(table.classes[0])]).shape[1]
    dropout = options.dropout
    if dropout is None:
        dropout = 0.5 if options.network == "yamnet-compact" else 0.2
    return RunConfig(
        dataset=options.dataset,
        data_dir=str(options.recordings.resolve()),
        split=classes,
        test_fold=options.test_fold,
        seed=options.seed,
        objective=options.objective,
        vocabulary=options.sounds,
        vocabulary_epochs=options.vocabulary_epochs,
        validation_share=options.validation_share,
        network=NetworkConfig(options.network, len(classes.seen), dropout, text_size),
        front_end=front_end_of(options.network, options.init is not None),
        window_frames=WINDOW_FRAMES[options.network],
        recipe=recipe_of(options),
        text=full_name(options.text),
        map=None if options.objective == "text" else options.map or "ridge",
        init=identify(options.init) if options.init else None,
        classes=list(table.classes),
        license=table.license,
    )
