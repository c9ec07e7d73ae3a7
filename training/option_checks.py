"""What the flags of training.run may be, alone and together; each refusal is one line."""

from serving.errors import UsageError
from serving.text_model.text_source import CLASS_TEXTS
from training.data.clips import DATASETS
from training.fit.objectives import MIXINGS
from training.networks import NETWORKS
from training.options import AUDIOSET, OBJECTIVES, Options, recipe_of
from training.text_encoders import text_encoder
from training.zeroshot_maps import LAMBDAS, MAPS

OF_A_TRAINING = (  # options of no meaning for the objective whitening, beside the vocabulary's number of sounds
    *("epochs", "finishing_epochs", "patience", "batch_size", "learning_rate", "weight_decay", "dropout"),
    *("mixup", "mixing", "gain_db", "speed", "vocabulary_epochs"),
)


def check(options: Options) -> None:
    """UsageError: a flag has a value that is not allowed; the message names the allowed ones."""
    if options.dataset not in DATASETS:
        raise UsageError(f"dataset: got {options.dataset}; wanted one of {', '.join(DATASETS)}")
    if options.network not in NETWORKS:
        raise UsageError(f"network: got {options.network}; wanted one of {', '.join(NETWORKS)}")
    if options.goal not in OBJECTIVES:
        raise UsageError(f"objective: got {options.objective}; wanted one of {', '.join(OBJECTIVES)}")
    _check_whitening(options)
    if options.map is not None and options.map not in MAPS:
        raise UsageError(f"--map: got {options.map}; wanted one of {', '.join(MAPS)}")
    if options.class_texts is not None and options.class_texts not in CLASS_TEXTS:
        raise UsageError(f"--class-texts: got {options.class_texts}; wanted one of {', '.join(CLASS_TEXTS)}")
    if options.map is not None and options.goal == "text":
        raise UsageError(
            f"--map: got {options.map}, but with --objective text the network learns its own projection onto the class "
            "vectors; leave --map out, or give --objective classes"
        )
    if options.map in LAMBDAS and options.attributes not in (None, "none"):
        raise UsageError(
            f"--attributes: got {options.attributes}, but --map {options.map} is a regression on the class texts; "
            "leave one of them out"
        )
    if options.patience is not None and not options.validation_share:
        raise UsageError(
            f"--patience: got {options.patience}, but with --validation-share 0 no epoch is judged; leave one "
            "of them out"
        )
    if options.mixing is not None and options.mixing not in MIXINGS:
        raise UsageError(f"--mixing: got {options.mixing}; wanted one of {', '.join(MIXINGS)}")
    text_encoder(options.encoder)
    if options.resume and options.overwrite:
        raise UsageError("--resume continues a run and --overwrite starts it again; give one of them")
    recipe, share, largest = recipe_of(options), options.validation_share, float("inf")
    fastest = 1 / recipe.crop  # more would read beyond a clip of one window
    limits = {
        "seed": (0 <= options.seed < 2**32, "0 to 4294967295"),
        "epochs": (recipe.epochs >= 1, "1 or more"),
        "finishing_epochs": (0 <= recipe.finishing < recipe.epochs, f"0 to {recipe.epochs - 1}, fewer than --epochs"),
        "patience": (options.patience is None or options.patience >= 1, "1 or more"),
        "batch_size": (recipe.batch_size >= 2, "2 or more"),
        "learning_rate": (0 < recipe.learning_rate < largest, "a positive number"),
        "weight_decay": (0 <= options.weight_decay < largest, "0 or more"),
        "mixup": (0 <= recipe.mixup < largest, "0 or more"),
        "gain_db": (0 <= options.gain_db < 200, "0 to 200"),
        "speed": (1 <= recipe.speed <= fastest, f"1 to {fastest:g}" if fastest > 1 else f"1 for {options.network}"),
        "vocabulary": (options.sounds == 0 or options.sounds >= 2, "0, or 2 or more"),
        "vocabulary_epochs": (options.vocabulary_epochs >= 1, "1 or more"),
        "validation_share": (share == 0 or 0.02 <= share <= 0.5, "0, or 0.02 to 0.5"),
        "dropout": (options.dropout is None or 0 <= options.dropout < 1, "0 to less than 1"),
    }
    for name, (good, wanted) in limits.items():
        if not good:
            raise UsageError(f"--{name.replace('_', '-')}: got {getattr(options, name)}; wanted {wanted}")


def _check_whitening(options: Options) -> None:
    """UsageError: yamnet-audioset, the objective whitening and --init do not go together as given."""
    if (options.network == AUDIOSET) != (options.goal == "whitening"):
        raise UsageError(
            f"--objective {options.goal} with --network {options.network}: whitening needs {AUDIOSET}, and {AUDIOSET} "
            "has no other objective"
        )
    if options.network == AUDIOSET and options.init is None:
        raise UsageError(
            f"--network {AUDIOSET}: needs Google's weights; give --init yamnet.h5, --init yamnet.tflite, "
            "or the model of a bundle that has them: --init demo/model/embedder.onnx"
        )
    given = [name for name in OF_A_TRAINING if getattr(options, name) != getattr(Options, name)]
    if options.goal == "whitening" and (given or options.vocabulary):
        name = [*given, "vocabulary"][0]
        raise UsageError(
            f"--{name.replace('_', '-')}: got {getattr(options, name)}, but with --objective whitening nothing is "
            "trained; leave it out"
        )
