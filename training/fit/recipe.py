"""How a network is trained: the recipe, the numbers of each epoch, and the choice of the best epoch."""

from dataclasses import dataclass

MIN_EPOCHS = 5  # the first epoch that can be the best one; before it BatchNorm's running statistics have not settled


@dataclass(frozen=True)
class Recipe:
    """How to train. Stored in the run folder.

    finishing      number of epochs, at the end, that use whole windows without mixup (Touvron 2019, arXiv:1906.06423)
    learning_rate  the largest of the schedule
    batch_size     windows of recordings per step; as many sounds of the vocabulary are added to them
    mixup          alpha of the Beta distribution; 0 for none
    mixing         what mixup mixes: one of objectives.MIXINGS
    gain_db        largest random gain, up or down
    crop           length of the random crops, as a share of the network's window
    speed          largest factor by which recordings are played faster or slower; 1 for none
    patience       epochs without a lower validation loss before training stops; None never stops early
    """

    epochs: int = 88
    finishing: int = 0
    batch_size: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    mixup: float = 0.3
    mixing: str = "log-mel"
    gain_db: float = 6.0
    crop: float = 0.5
    speed: float = 1.0
    patience: int | None = None


@dataclass(frozen=True)
class Epoch:
    """One line of metrics.jsonl. Losses are cross-entropies; train_accuracy is measured on augmented windows.

    The validation numbers are None in a run without validation clips.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float
    samples_per_second: float


def steps_per_epoch(n_windows: int, batch_size: int) -> int:
    """Number of batches of nearly equal size: none above batch_size, none of one window, which BatchNorm refuses."""
    return max(1, min(-(-n_windows // batch_size), n_windows // 2))


def best_epoch(history: list[Epoch], recipe: Recipe) -> Epoch | None:
    """The epoch with the lowest validation loss from MIN_EPOCHS on; without validation clips, the last epoch."""
    candidates = [done for done in history if done.epoch >= min(MIN_EPOCHS, recipe.epochs)]
    return min(candidates, key=lambda done: (done.validation_loss or 0.0, -done.epoch), default=None)


def should_stop(history: list[Epoch], recipe: Recipe) -> bool:
    """Whether `patience` epochs have passed since the best one."""
    best = best_epoch(history, recipe)
    return best is not None and recipe.patience is not None and len(history) - best.epoch >= recipe.patience
