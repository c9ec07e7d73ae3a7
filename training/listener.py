"""What is told while networks are trained."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from training.fit.recipe import Epoch


def _ignore(*_: Any) -> None:
    """Told to nobody."""


@dataclass(frozen=True)
class Listener:
    """Functions that are called while a network is trained.

    on_step         with the epoch, counted from 1, and the share of it that is done
    on_epoch        with the numbers of each epoch
    on_pretraining  as on_step, while the acoustic vocabulary is learned
    on_teacher      as on_step, after the teacher's number, counted from 1
    say             with lines for the user
    """

    on_step: Callable[[int, float], None] = _ignore
    on_epoch: Callable[[Epoch], None] = _ignore
    on_pretraining: Callable[[int, float], None] = _ignore
    on_teacher: Callable[[int, int, float], None] = _ignore
    say: Callable[[str], None] = _ignore

    def to_teacher(self, number: int) -> "Listener":
        """While this teacher is trained. Only the first one says its lines: they are the same for all."""
        say = self.say if number == 1 else _ignore
        return replace(self, on_step=partial(self.on_teacher, number), on_epoch=_ignore, say=say)

    def after_teachers(self, count: int) -> "Listener":
        """While the network itself is trained."""
        return replace(self, say=_ignore) if count else self
