"""The learning rate of each step."""

import torch

FINISHING_SHARE = 0.2  # of the cycle's largest rate; the cycle's own last rates are too small to adapt to whole windows


class Schedule:
    """One cycle (Smith 2018, arXiv:1708.07120), then a linear decay to 0 over the finishing steps.

    largest  learning rate at the top of the cycle; the decay starts at FINISHING_SHARE of it
    """

    def __init__(self, optimiser: torch.optim.Optimizer, largest: float, cycle_steps: int, finishing_steps: int):
        self.optimiser = optimiser
        self.largest = largest
        self.cycle_steps = cycle_steps
        self.finishing_steps = finishing_steps
        self.taken = 0
        self.cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=largest, total_steps=cycle_steps + 1)

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return float(self.optimiser.param_groups[0]["lr"])

    def step(self) -> None:
        """Set the next step's rate; to be called after each step of the optimiser."""
        self.taken += 1
        finished = self.taken - self.cycle_steps
        if finished <= 0:
            self.cycle.step()
        if finished >= 0 and self.finishing_steps:
            rate = self.largest * FINISHING_SHARE * (1 - finished / self.finishing_steps)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
