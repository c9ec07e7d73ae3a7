"""TensorBoard events of a run: `tensorboard --logdir runs` shows curves and figures."""

from pathlib import Path

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from serving.errors import RunError
from training.fit.recipe import Epoch
from training.run_folder import TENSORBOARD


class TensorBoardLog:
    """Writes the events of one run folder. RunError if it cannot be written."""

    def __init__(self, run: Path, after_epoch: int | None = None):
        """after_epoch: the last finished epoch of a resumed run; events of later epochs are hidden."""
        purge = None if after_epoch is None else after_epoch + 1
        self._path = run / TENSORBOARD
        try:
            self._writer = SummaryWriter(str(self._path), purge_step=purge)
        except OSError as error:
            raise RunError(f"{self._path}: cannot be written ({error.strerror}); free some space") from error

    def epoch(self, done: Epoch) -> None:
        """Write loss and accuracy of training and validation, the learning rate and the speed."""
        for part in ("train", "validation"):
            for number in ("loss", "accuracy"):
                value = getattr(done, f"{part}_{number}")
                if value is not None:
                    self._writer.add_scalar(f"{number}/{part}", value, done.epoch)
        self._writer.add_scalar("learning rate", done.learning_rate, done.epoch)
        self._writer.add_scalar("samples per second", done.samples_per_second, done.epoch)

    def figure(self, name: str, figure: Figure, epoch: int) -> None:
        """Write a figure at the epoch whose weights it shows."""
        self._writer.add_figure(name, figure, epoch)

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()
