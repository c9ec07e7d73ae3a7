"""TensorBoard events of a run: `tensorboard --logdir runs` shows its curves and figures."""

from pathlib import Path

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from serving.errors import RunError
from training.fit.recipe import Epoch

FOLDER = "tensorboard"


class TensorBoardLog:
    """The events of one run folder. RunError where they cannot be written."""

    def __init__(self, run: Path, after_epoch: int | None = None):
        """after_epoch: of a resumed run; what was written of later epochs is hidden."""
        purge = None if after_epoch is None else after_epoch + 1
        self._path = run / FOLDER
        try:
            self._writer = SummaryWriter(str(self._path), purge_step=purge)
        except OSError as error:
            raise RunError(f"{self._path}: cannot be written ({error.strerror}); free some space") from error

    def epoch(self, done: Epoch) -> None:
        """Loss and accuracy of training and validation, the learning rate, the speed."""
        for part in ("train", "validation"):
            for number in ("loss", "accuracy"):
                value = getattr(done, f"{part}_{number}")
                if value is not None:
                    self._writer.add_scalar(f"{number}/{part}", value, done.epoch)
        self._writer.add_scalar("learning rate", done.learning_rate, done.epoch)
        self._writer.add_scalar("samples per second", done.samples_per_second, done.epoch)

    def figure(self, name: str, figure: Figure, epoch: int) -> None:
        """A figure, at the epoch whose weights it shows."""
        self._writer.add_figure(name, figure, epoch)

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()
