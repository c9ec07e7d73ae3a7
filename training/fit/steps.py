"""The steps of an epoch: one after the other as PyTorch runs them, or captured as a CUDA graph.

A step of a small network on a GPU is mostly launches: a few hundred kernels of some microseconds. Captured, the forward
and the backward pass are one launch, with crops, gain and mixing from frames on the GPU. The optimiser is not captured,
because its momentum changes with the learning rate's cycle.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.fit.draws import Cutter, DeviceFrames, TensorDraws, as_tensors, cut_on_cpu, stack
from training.fit.objectives import Objective, Targets

WARM_UP = 3  # steps before a capture: they allocate memory and choose kernels

Step = Callable[[Tensor, Targets], tuple[Tensor, Tensor]]  # windows, targets -> loss, rows classified correctly
Backward = Callable[[Tensor], None]  # gradients of a loss
Replay = Callable[[], object]


def capture_on_cuda(work: Callable[[], None]) -> Replay:
    """Run `work` a few times, then capture what it launches: calling the result launches it again.

    Source: "whole-network capture" in PyTorch's notes on CUDA graphs.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class EpochSteps:
    """Takes the steps of epochs.

    network   whose parameters get the gradients
    optimise  takes the optimiser's step, and sets the next learning rate
    sums      [2] float32 on the device: the loss summed over the rows, and the rows that were classified correctly
    """

    def __init__(
        self, step: Step, backward: Backward, optimise: Callable[[], None], network: nn.Module, device: torch.device
    ):
        self._step, self._backward, self._optimise = step, backward, optimise
        self._network, self._device = network, device
        self.sums = torch.zeros(2, device=device)

    def run(
        self,
        objective: Objective,
        batches: Sequence[NDArray[np.int64]],
        rng: np.random.Generator,
        on_step: Callable[[int], None],
    ) -> None:
        """Take all steps. batches: the rows of each; on_step: called with the number of steps that are done."""
        for i, rows in enumerate(batches):
            log_mel, targets = objective.make(as_tensors(objective.draw(rows, rng)), cut_on_cpu)
            on_device = tuple(target.to(self._device) for target in targets)
            self._gradients(log_mel.to(self._device), on_device, len(rows))
            self._optimise()
            on_step(i + 1)

    def _gradients(self, log_mel: Tensor, targets: Targets, rows: int) -> None:
        loss, n_correct = self._step(log_mel, targets)
        for parameter in self._network.parameters():
            parameter.grad = None
        self._backward(loss)
        self.sums += torch.stack([loss.detach() * rows, n_correct.to(loss.dtype)])


class CapturedSteps(EpochSteps):
    """The same steps on a GPU, captured for each objective and batch size.

    capture  `capture_on_cuda`; in tests what does the work again
    cut      cuts windows on the device; None: `DeviceFrames`
    """

    def __init__(
        self,
        step: Step,
        backward: Backward,
        optimise: Callable[[], None],
        network: nn.Module,
        device: torch.device,
        capture: Callable[[Callable[[], None]], Replay] = capture_on_cuda,
        cut: Cutter | None = None,
    ):
        super().__init__(step, backward, optimise, network, device)
        self._capture = capture
        self._cut = cut or DeviceFrames(device)
        self._objective: Objective | None = None
        self._captured: dict[int, CapturedGradients] = {}  # by the number of rows

    def prepare(self, objective: Objective, batches: Sequence[NDArray[np.int64]]) -> None:
        """Capture a step for each size of batch. RuntimeError: it cannot be captured, or there is no memory for it.

        The network and the random numbers stay as they are.
        """
        if objective is not self._objective:
            self._objective, self._captured = objective, {}
        for rows in batches:
            if len(rows) not in self._captured:
                drawn = as_tensors(objective.draw(rows, np.random.default_rng(0)))
                draws = {name: values.to(self._device) for name, values in drawn.items()}
                self._captured[len(rows)] = self._capture_step(objective, draws, len(rows))

    def _capture_step(self, objective: Objective, draws: TensorDraws, rows: int) -> "CapturedGradients":
        kept = [self.sums, *self._network.buffers()]
        before = [values.clone() for values in kept]

        def work() -> None:
            log_mel, targets = objective.make(draws, self._cut)
            self._gradients(log_mel, targets, rows)

        devices = [self._device] if self._device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                replay = self._capture(work)
        finally:
            with torch.no_grad():
                for values, value in zip(kept, before, strict=True):
                    values.copy_(value)
        return CapturedGradients(draws, replay, list(self._network.parameters()))

    def run(
        self,
        objective: Objective,
        batches: Sequence[NDArray[np.int64]],
        rng: np.random.Generator,
        on_step: Callable[[int], None],
    ) -> None:
        """As `EpochSteps.run`. All that is drawn goes to the device before the first step: none waits for it."""
        self.prepare(objective, batches)
        draws = [objective.draw(rows, rng) for rows in batches]
        of_size = {len(rows): [i for i, each in enumerate(batches) if len(each) == len(rows)] for rows in batches}
        stacked = {size: stack((draws[i] for i in numbers), self._device) for size, numbers in of_size.items()}
        place = {i: k for numbers in of_size.values() for k, i in enumerate(numbers)}
        for i, rows in enumerate(batches):
            drawn = {name: values[place[i]] for name, values in stacked[len(rows)].items()}
            self._captured[len(rows)].compute(drawn)
            self._optimise()
            on_step(i + 1)


class CapturedGradients:
    """A captured step: draws -> the gradients of the parameters.

    draws    the tensors from which the step reads
    replay   does the step again
    """

    def __init__(self, draws: TensorDraws, replay: Replay, parameters: list[nn.Parameter]):
        self._draws, self._replay, self._parameters = draws, replay, parameters
        self._gradients = [parameter.grad for parameter in parameters]  # each capture has its own

    def compute(self, draws: TensorDraws) -> None:
        """Compute the gradients of a batch, into `grad` of the parameters."""
        for name, values in self._draws.items():
            values.copy_(draws[name])
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self._replay()
