"""The training loop: epochs over cached log-mels, a checkpoint after each, the best epoch's weights at the end."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.command_line import say
from serving.errors import RunError, one_line
from serving.memory import keep_freed_memory
from training.compute import Compute
from training.data.clip_frames import ClipSet
from training.fit.checkpoint import load_tensors, optimiser_tensors, restore, save_tensors, write_text
from training.fit.clip_embeddings import embed_clips, head_loss_and_accuracy
from training.fit.objectives import Objective, Targets
from training.fit.recipe import Epoch, Recipe, best_epoch, should_stop, steps_per_epoch
from training.fit.steps import CapturedSteps, EpochSteps
from training.fit.workers import Workers, share_statistics
from training.networks import Network
from training.run_folder import LAST, METRICS, WEIGHTS

FINISHING_SHARE = 0.2  # of the cycle's largest rate; the cycle's own last rates are too small to adapt to whole windows


def fit(
    network: Network,
    objective: Objective,
    validation: ClipSet | None,
    recipe: Recipe,
    seed: int,
    compute: Compute,
    run: Path | None,
    on_step: Callable[[int, float], None] = lambda epoch, share: None,
    on_epoch: Callable[[Epoch], None] = lambda done: None,
    resume: bool = False,
    workers: Workers = Workers(),  # noqa: B008 (frozen)
) -> list[Epoch]:
    """Train the network and leave the best epoch's weights in it and in run/weights.safetensors.

    validation  clips that choose the best epoch; None takes the last epoch
    run         folder of the checkpoints; None writes nothing: for trainings that nobody will resume
    on_step     called after each step with (epoch, share of it done);  on_epoch with each epoch's numbers
    resume      continue after the last finished epoch; all randomness depends on the seed and the epoch alone,
                so that an interrupted run ends with the weights of an uninterrupted one
    returns     all epochs, including those before a resumption
    errors      RunError: the loss is not a finite number, or the run folder cannot be written
    """
    if compute.device.type == "cpu":
        keep_freed_memory()
    training = _Training(network, objective, recipe, compute, workers)
    history = training.resume(run) if resume and run else []
    while len(history) < recipe.epochs and not should_stop(history, recipe):
        number, started = len(history) + 1, time.perf_counter()
        loss, accuracy = training.run_epoch(number, seed, on_step)
        seconds = time.perf_counter() - started
        validation_loss = validation_accuracy = None
        if validation:
            embeddings = embed_clips(network, validation, compute.device)
            validation_loss, validation_accuracy = head_loss_and_accuracy(
                network, embeddings, validation.labels, compute.device
            )
        if not (math.isfinite(loss) and math.isfinite(validation_loss or 0.0)):
            kept = f"; {run} keeps the epochs before it" if run else ""
            raise RunError(
                f"epoch {number}: the loss is not a finite number; lower --learning-rate (now "
                f"{recipe.learning_rate:g}){kept}"
            )
        rate, speed = training.schedule.rate, len(objective.order) / seconds
        done = Epoch(number, loss, accuracy, validation_loss, validation_accuracy, rate, seconds, speed)
        history.append(done)
        if workers.first or run is None:
            training.save(history, run)
        on_epoch(done)
    if run is None:
        training.load_kept()
        return history
    if workers.first:
        training.save_last_weights(history, run)
    workers.wait()
    network.load_state_dict(load_tensors(run / WEIGHTS)[0])
    return history


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


class _Step(nn.Module):
    """One step's forward pass: this process's part of the windows, and the loss over the whole batch."""

    def __init__(self, network: Network, objective: Objective, compute: Compute, workers: Workers):
        super().__init__()
        self.network = network
        self.objective = objective
        self.workers = workers
        self.compute = compute
        self.embed = torch.compile(network.embed_guided) if compute.compile else network.embed_guided

    def forward(self, log_mel: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        with self.compute.autocast():
            part = self.embed(self.workers.part(log_mel))
        embeddings = self.workers.gather(part.float(), len(log_mel))  # the loss is always FP32
        return self.objective.loss(self.network, embeddings, targets)


class _Training:
    """All that changes while a network is trained: its weights, the optimiser, the learning rate, the loss scale."""

    def __init__(self, network: Network, objective: Objective, recipe: Recipe, compute: Compute, workers: Workers):
        self.network = network
        self.objective = objective
        self.recipe = recipe
        self.device = compute.device
        network.to(self.device).to(memory_format=torch.channels_last)  # a third faster on a CPU, more on a GPU
        self.optimiser = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay, fused=True)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=compute.dtype is torch.float16)
        self.step: nn.Module = _Step(network, objective, compute, workers)
        if workers.count > 1:
            share_statistics(nn.ModuleList([network.features, network.embedding]))
            self.step = nn.parallel.DistributedDataParallel(self.step, forward_sync_buffers=False)
        self.finishing = objective.finishing()
        parts = (self.step, self._backward, self._optimise, network, compute.device)
        self.eager = EpochSteps(*parts)
        # A scaler looks at the gradients of each step before the next one, and processes wait for each other.
        capture = compute.capture and compute.device.type == "cuda" and not self.scaler.is_enabled()
        self.captured = CapturedSteps(*parts) if capture and workers.count == 1 else None
        self.steps = steps_per_epoch(len(objective.order), recipe.batch_size)
        self.cycle = recipe.epochs - recipe.finishing  # epochs before the finishing ones
        self.schedule = Schedule(
            self.optimiser, recipe.learning_rate, self.cycle * self.steps, recipe.finishing * self.steps
        )
        self.kept: dict[str, Tensor] = {}  # the best epoch's weights, where they are not in a file

    def run_epoch(self, number: int, seed: int, on_step: Callable[[int, float], None]) -> tuple[float, float]:
        """Take all steps of an epoch (counted from 1); returns the mean loss and the accuracy over its rows."""
        objective = self.objective if number <= self.cycle else self.finishing
        order = self.objective.order
        rng = np.random.default_rng([seed, number])
        torch.manual_seed(int(rng.integers(2**62)))  # for dropout
        self.network.train()
        batches = np.array_split(rng.permutation(order), self.steps)
        steps = self._steps_for(objective, batches)
        steps.sums.zero_()
        steps.run(objective, batches, rng, lambda done: on_step(number, done / self.steps))
        loss_sum, correct = steps.sums.tolist()
        return loss_sum / len(order), correct / len(order)

    def _steps_for(self, objective: Objective, batches: Sequence[NDArray[np.int64]]) -> EpochSteps:
        """Captured steps on a GPU, if they can be captured."""
        if self.captured is not None:
            try:
                self.captured.prepare(objective, batches)
                return self.captured
            except RuntimeError as error:  # also torch.cuda.OutOfMemoryError
                reason = one_line(error, 200)
                say(f"warning: a step cannot be captured as a CUDA graph ({reason}); all run kernel by kernel")
                self.captured = None
        return self.eager

    def _backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def _optimise(self) -> None:
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()

    def save(self, history: list[Epoch], run: Path | None) -> None:
        """Write the best weights first: a run killed between two writes repeats the epoch and writes them again.

        Without validation every epoch is the best one so far, so its weights wait for the end: `save_last_weights`.
        run   None: only the weights that may have to come back are kept, in memory
        """
        is_best = history[-1].validation_loss is not None and best_epoch(history, self.recipe) is history[-1]
        if run is None:
            if is_best:
                self.kept = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
            return
        if is_best:
            self._save_weights(history, run)
        network_tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        epochs = [asdict(done) for done in history]
        facts = {"history": epochs, "scaler": self.scaler.state_dict()}
        save_tensors(run / LAST, network_tensors | optimiser_tensors(self.optimiser), facts)
        write_text(run / METRICS, "".join(json.dumps(line) + "\n" for line in epochs))

    def save_last_weights(self, history: list[Epoch], run: Path) -> None:
        """Without validation, write the last epoch's weights, unless a finished run that was resumed has them."""
        if history[-1].validation_loss is None and not _is_of_epoch(run / WEIGHTS, len(history)):
            self._save_weights(history, run)

    def _save_weights(self, history: list[Epoch], run: Path) -> None:
        save_tensors(run / WEIGHTS, self.network.state_dict(), {"epoch": len(history)})

    def load_kept(self) -> None:
        """Return to the best epoch. Without validation that is the last one, which the network has."""
        if self.kept:
            self.network.load_state_dict(self.kept)

    def resume(self, run: Path) -> list[Epoch]:
        """Continue from the last checkpoint; returns the epochs before it."""
        tensors, facts = load_tensors(run / LAST)
        restore(self.network, self.optimiser, {name: value.to(self.device) for name, value in tensors.items()})
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(facts["scaler"])
        history = [Epoch(**line) for line in facts["history"]]
        if history:
            self.optimiser.step()  # changes nothing without gradients, but torch warns if the schedule steps first
        for _ in range(len(history) * self.steps):
            self.schedule.step()
        return history


def _is_of_epoch(weights: Path, epoch: int) -> bool:
    """Whether a file has an epoch's weights. Those of a finished run are scaled and do not say which one's."""
    try:
        return load_tensors(weights)[1].get("epoch", epoch) == epoch
    except RunError:  # missing or damaged
        return False
