"""The flags of training.run, and the run configuration that they describe."""

from dataclasses import dataclass, replace
from pathlib import Path

from serving.errors import UsageError
from serving.zeroshot.label_text import split_labels
from training.compute import ComputeOptions
from training.data.class_attributes import choose_attributes
from training.data.clips import ClipTable
from training.data.known_classes import describe_class
from training.data.splits import VALIDATION_SHARE, split_classes
from training.fit.recipe import Recipe
from training.networks import WINDOW_FRAMES, NetworkConfig
from training.published.pretrained import front_end_of, identify
from training.run_folder import RunConfig
from training.text_encoders import DEFAULT_ENCODER, full_name, text_encoder
from training.zeroshot_maps import LAMBDAS

LOW_RATE = 1e-3  # of small batches after pretraining on the vocabulary, and for vggish's large fully connected layers
SMALL_BATCH = Recipe.batch_size  # for few clips
LARGE_BATCH = 64  # from which on Recipe's own rate is the better one after pretraining too
OBJECTIVES = ("text", "classes", "whitening")
RECIPES = {  # docs/results/zero-shot.md, docs/results/training.md
    "text": Recipe(epochs=100, finishing=12, batch_size=64, speed=1.25),
    "classes": Recipe(epochs=160, finishing=20, batch_size=64, mixup=1.0, mixing="sound", speed=1.25),
}
# Its fully connected layers need the whole window. An epoch has five of its short windows from each clip.
VGGISH_RECIPES = {
    "text": Recipe(epochs=8, learning_rate=LOW_RATE, crop=1.0),
    "classes": Recipe(epochs=11, finishing=1, learning_rate=LOW_RATE, crop=1.0),
}
AUDIOSET = "yamnet-audioset"
VOCABULARY = 1500
VOCABULARY_EPOCHS = 12


@dataclass(frozen=True, kw_only=True)
class Options(ComputeOptions):
    """Train one network on the seen classes of a data set and write a run folder."""

    dataset: str = "ESC-50"
    """ESC-50, ESC-10, FSC22, synthetic, or folder (a folder of class folders)"""
    data_dir: Path | None = None
    """the data set's folder; default: data/DATASET"""
    download: bool = False
    """download ESC-50, ESC-10 or FSC22 from its authors' archive if it is not in the folder yet"""
    network: str = "yamnet"
    """yamnet, yamnet-compact, vggish, or yamnet-audioset (Google's YAMNet with the weights that --init gives)"""
    split: str = "all"
    """which classes to train on: all, random, cat0-4, fold0-4 or fold04-34 (ESC-50), train, val or test (FSC22)"""
    unseen: str | None = None
    """names of the classes to keep unseen, separated by commas: dog,rain; a name may be in double quotes"""
    test_fold: int | None = None
    """the data set's recording fold held out as the test set"""
    out: Path | None = None
    """the run folder; default: runs/DATASET-NETWORK-SPLIT"""
    objective: str | None = None
    """text: targets made of class descriptions, for unseen classes; classes: class numbers, for seen ones; whitening:
    no training, an embedding in closed form on published features; default: text, for yamnet-audioset whitening"""
    vocabulary: int | None = None
    """number of synthesised sounds with descriptions that the network learns before the recordings, and with
    --objective text also together with them; 0: none; default: 1500, but with --objective classes 0 for vggish, and
    for yamnet-compact with --dataset folder"""
    vocabulary_epochs: int = VOCABULARY_EPOCHS
    """epochs on the vocabulary alone, before the recordings"""
    validation_share: float = VALIDATION_SHARE
    """share of the training clips that is kept to choose the best epoch, 0.02 to 0.5: one part of 2 to 50, the nearest
    to it; 0: train on all clips and keep the last epoch"""
    epochs: int | None = None
    """maximum number of passes over the training windows; default: 100 (vggish: 8), with --objective classes 160
    (vggish: 11)"""
    finishing_epochs: int | None = None
    """number of the last epochs that use whole windows without mixup; default: 12 of 100 epochs (vggish: none), with
    --objective classes an eighth (vggish: an eleventh)"""
    patience: int | None = Recipe.patience
    """stop after this many epochs without a better validation loss; default: never early"""
    batch_size: int | None = None
    """windows of recordings in a step; with --objective text, the same number of vocabulary sounds is added; default:
    64 (vggish, and with --objective classes yamnet-compact with --dataset folder: 16)"""
    learning_rate: float | None = None
    """maximum of the one-cycle schedule; default: 0.002, but 0.001 for vggish, and with a vocabulary in
    batches of fewer than 64"""
    weight_decay: float = Recipe.weight_decay
    """weight decay of AdamW"""
    dropout: float | None = None
    """probability in the fully connected layers; default: 0.5 for yamnet-compact, 0.2 for the others"""
    mixup: float | None = None
    """alpha of mixup's Beta distribution; 0: no mixup; default: 0.3, with --objective classes 1 (vggish: 0.3)"""
    mixing: str | None = None
    """what mixup mixes: log-mel, or sound (magnitudes of equal loudness); default: log-mel, with --objective
    classes sound (vggish: log-mel)"""
    gain_db: float = Recipe.gain_db
    """maximum random gain, up or down, in decibels"""
    speed: float | None = None
    """largest change of speed, which changes time and pitch: 1.25 plays each crop 0.8 to 1.25 times as fast; 1: none;
    default: 1.25 (vggish: 1)"""
    text: str | None = None
    """encoder of the class texts: glove+minilm, glove, minilm, word2vec:FILE or sentence:FOLDER_OR_NAME; default:
    glove+minilm, with --objective whitening minilm"""
    class_texts: str | None = None
    """what of a class is encoded: description, or name+description (the mean of both vectors); default: description,
    with --objective whitening name+description"""
    attributes: str | None = None
    """a TOML file with the attributes of each class, from which unseen classes are predicted (docs/training.md); none:
    only the class texts, and no lexicon; default: the built-in attributes, if they cover the data set's classes"""
    map: str | None = None
    """with --objective classes or whitening: the closed-form map between embeddings and class vectors, ridge, eszsl or
    prototypes; default: prototypes, with --attributes none ridge (--objective whitening: prototypes)"""
    init: Path | None = None
    """start from published weights: Google's yamnet.h5 or yamnet.tflite, the embedder.onnx of a yamnet-audioset bundle
    such as demo/model, torch_audioset's YAMNet or torchvggish's VGGish (.safetensors, .pt, .pth); with YAMNet's, the
    front end adds 0.001 before the log as Google's does, otherwise 0.01"""
    skip_unreadable: bool = False
    """leave out recordings that cannot be read, instead of stopping with a list of them"""
    seed: int = 0
    """random seed of the split, the weights and the augmentation"""
    cache_dir: Path = Path("cache")
    """folder for log-mels and pretrained weights that runs share"""
    overwrite: bool = False
    """replace an existing run folder"""
    resume: bool = False
    """continue an interrupted run of the same options"""

    @property
    def goal(self) -> str:
        """The objective."""
        return self.objective or ("whitening" if self.network == AUDIOSET else "text")

    @property
    def encoder(self) -> str:
        """Name of the encoder of the class texts."""
        return self.text or ("minilm" if self.goal == "whitening" else DEFAULT_ENCODER)

    @property
    def sounds(self) -> int:
        """Number of vocabulary sounds that are learned."""
        if self.goal == "whitening":
            return 0
        if self.vocabulary is not None:
            return self.vocabulary
        if self.goal == "text":
            return VOCABULARY
        # For vggish an epoch of the vocabulary takes minutes; its gain for the objective "classes" was not measured.
        return 0 if self.network == "vggish" or self.expects_few_clips else VOCABULARY

    @property
    def expects_few_clips(self) -> bool:
        """Whether yamnet-compact learns the classes of a user's own folder.

        Then small batches, which are more steps, bring as much as the vocabulary, and sooner: docs/own-sounds.md.
        """
        return self.dataset == "folder" and self.network == "yamnet-compact" and self.goal == "classes"

    @property
    def recordings(self) -> Path:
        """The data set's folder."""
        return self.data_dir or Path("data") / self.dataset


def recipe_of(options: Options) -> Recipe:
    """The objective's recipe, changed by the flags that were given."""
    if options.goal == "whitening":
        return Recipe(epochs=1)
    recipe = (VGGISH_RECIPES if options.network == "vggish" else RECIPES)[options.goal]
    if options.expects_few_clips:
        recipe = replace(recipe, batch_size=SMALL_BATCH)
    batch_size = recipe.batch_size if options.batch_size is None else options.batch_size
    if options.sounds and batch_size < LARGE_BATCH:
        recipe = replace(recipe, learning_rate=LOW_RATE)
    epochs = recipe.epochs if options.epochs is None else options.epochs
    finishing = epochs * recipe.finishing // recipe.epochs
    return Recipe(
        epochs=epochs,
        finishing=finishing if options.finishing_epochs is None else options.finishing_epochs,
        batch_size=batch_size,
        learning_rate=recipe.learning_rate if options.learning_rate is None else options.learning_rate,
        weight_decay=options.weight_decay,
        mixup=recipe.mixup if options.mixup is None else options.mixup,
        mixing=options.mixing or recipe.mixing,
        gain_db=options.gain_db,
        crop=recipe.crop,
        speed=recipe.speed if options.speed is None else options.speed,
        patience=options.patience,
    )


def configure(options: Options, table: ClipTable) -> RunConfig:
    """The run's configuration. UsageError or DataError: the options do not fit the data set."""
    unseen = tuple(split_labels(options.unseen or "", table.classes, flag="--unseen"))
    if options.unseen is not None and not unseen:
        raise UsageError("--unseen: names no class; give class names separated by commas, or leave it out")
    classes = split_classes(table, options.split, options.seed, unseen)
    text_size = 0
    if options.goal == "text":
        text_size = text_encoder(options.encoder)([describe_class(table.classes[0])]).shape[1]
    whitening = options.goal == "whitening"
    attributes = choose_attributes(table.classes, options.attributes)
    lexicon = options.attributes != "none"
    chosen_map = None if options.goal == "text" else options.map or ("prototypes" if whitening or lexicon else "ridge")
    if chosen_map in LAMBDAS:  # these maps are regressions on the texts
        attributes, lexicon = {}, False
    dropout = options.dropout
    if dropout is None:
        dropout = 0.5 if options.network == "yamnet-compact" else 0.2
    return RunConfig(
        dataset=options.dataset,
        data_dir=str(options.recordings.resolve()),
        split=classes,
        test_fold=options.test_fold,
        seed=options.seed,
        objective=options.goal,
        vocabulary=options.sounds,
        vocabulary_epochs=options.vocabulary_epochs,
        validation_share=options.validation_share,
        network=NetworkConfig(options.network, len(classes.seen), dropout, text_size, options.goal == "text"),
        front_end=front_end_of(options.network, options.init is not None),
        window_frames=WINDOW_FRAMES[options.network],
        recipe=recipe_of(options),
        text=full_name(options.encoder),
        map=chosen_map,
        attributes=attributes,
        lexicon=lexicon,
        class_texts=options.class_texts or ("name+description" if whitening else "description"),
        init=identify(options.init) if options.init else None,
        classes=list(table.classes),
        license=table.license,
    )
