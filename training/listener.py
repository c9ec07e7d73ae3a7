"""What is told while a network is trained."""

from collections.abc import Callable
from dataclasses import dataclass
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
    say             with lines for the user
    """

    on_step: Callable[[int, float], None] = _ignore
    on_epoch: Callable[[Epoch], None] = _ignore
    on_pretraining: Callable[[int, float], None] = _ignore
    say: Callable[[str], None] = _ignore
