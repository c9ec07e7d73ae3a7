"""Show a training's progress: bars on the terminal, and TensorBoard events (`tensorboard --logdir runs`)."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from serving.command_line import say
from serving.errors import RunError
from serving.progress import ProgressBars
from training.fit.recipe import Epoch
from training.listener import Listener
from training.run_folder import TENSORBOARD, RunConfig


class TensorBoardLog:
    """Writes the events of one run folder. RunError if it cannot be begun.

    If it cannot be written later, a warning says so, and there are no more events: a training is worth more.
    """

    def __init__(self, run: Path, after_epoch: int | None = None):
        """after_epoch: the last finished epoch of a resumed run; events of later epochs are hidden."""
        purge = None if after_epoch is None else after_epoch + 1
        self._path = run / TENSORBOARD
        self._writer: SummaryWriter | None = None
        try:
            self._writer = SummaryWriter(str(self._path), purge_step=purge)
        except OSError as error:
            raise RunError(f"{self._path}: cannot be written ({error.strerror}); free some space") from error

    def epoch(self, done: Epoch) -> None:
        """Write loss and accuracy of training and validation, the learning rate and the speed."""
        numbers = {
            f"{number}/{part}": getattr(done, f"{part}_{number}")
            for part in ("train", "validation")
            for number in ("loss", "accuracy")
        }
        numbers |= {"learning rate": done.learning_rate, "samples per second": done.samples_per_second}
        for name, value in numbers.items():
            if value is not None:
                self._write(lambda writer, name=name, value=value: writer.add_scalar(name, value, done.epoch))

    def figure(self, name: str, figure: Figure, epoch: int) -> None:
        """Write a figure at the epoch whose weights it shows."""
        self._write(lambda writer: writer.add_figure(name, figure, epoch))

    def close(self) -> None:
        """Flush and close the file."""
        self._write(SummaryWriter.close)

    def _write(self, work: Callable[[SummaryWriter], object]) -> None:
        """Let `work` use the writer. It raises what stopped the writer's own thread, maybe long before."""
        if self._writer is None:
            return
        try:
            work(self._writer)
        except OSError as error:
            self._writer = None
            reason = error.strerror or error
            say(f"warning: {self._path}: cannot be written ({reason}); free some space; there are no more events")


def epoch_progress(visible: bool) -> ProgressBars:
    """A progress display for tasks whose unit is an epoch."""
    return ProgressBars(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed:.1f}/{task.total:.0f}"),
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        unit="epoch",
        transient=False,
        quiet=not visible,
    )


def progress_listener(progress: Progress, config: RunConfig, board: TensorBoardLog | None) -> Listener:
    """Advances a bar for the vocabulary and one for the recordings.

    board   gets the numbers of each epoch; None in a process that only helps the first one, which prints nothing
    """
    pretraining = progress.add_task("vocabulary", total=config.vocabulary_epochs, numbers="", visible=False)
    bar = progress.add_task(config.network.name, total=config.recipe.epochs, numbers="")

    def advance(task: TaskID, epoch: int, share: float) -> None:
        progress.update(task, completed=epoch - 1 + share, visible=True)

    def on_epoch(done: Epoch) -> None:
        numbers = f"loss {done.train_loss:.3f}"
        if done.validation_loss is not None and done.validation_accuracy is not None:
            numbers += f", validation {done.validation_loss:.3f}, accuracy {done.validation_accuracy:.1%}"
        progress.update(bar, completed=done.epoch, numbers=numbers)
        if board:
            board.epoch(done)

    return Listener(
        on_step=partial(advance, bar),
        on_epoch=on_epoch,
        on_pretraining=partial(advance, pretraining),
        say=say if board else lambda line: None,
    )
