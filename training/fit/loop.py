"""The training loop: epochs over cached windows, the best checkpoint by validation loss, early stopping."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from serving.errors import RunError
from training.data.windows import ClipSet
from training.fit.checkpoint import (
    LAST,
    WEIGHTS,
    load_tensors,
    optimiser_tensors,
    restore,
    save_tensors,
    write_text,
)
from training.fit.objectives import Objective, Targets
from training.fit.schedule import Schedule
from training.fit.workers import Workers, share_statistics
from training.networks import Network

MIN_EPOCHS = 5  # the first epochs' running statistics are no guide: no best epoch and no stop before this one
EMBED_CLIPS = 16  # embedded at once where nothing is learned
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Recipe:
    """How to train. Stored in the run folder.

    finishing      how many of the epochs, at the end, hear whole windows, unmixed (Touvron 2019, arXiv:1906.06423)
    learning_rate  the largest of the schedule
    batch_size     windows of recordings in a step; as many of the vocabulary's sounds are added to them
    mixup          alpha of the Beta distribution; 0 is none
    mixing         what it mixes: one of objectives.MIXINGS
    gain_db        largest random gain, either way
    crop           length of the random crops that are trained on, as a share of the network's window
    patience       epochs without a better validation loss before stopping; None never stops early
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
    patience: int | None = None


@dataclass(frozen=True)
class Machine:
    """What to train on.

    dtype    float32, or bfloat16 or float16 for mixed precision
    compile  let torch.compile fuse the network
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    compile: bool = False


@dataclass(frozen=True)
class Epoch:
    """One line of metrics.jsonl. Losses are cross-entropies; train_accuracy is on the augmented windows.

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


class _Step(nn.Module):
    """One step's forward pass: the windows of this process's part, the loss over the whole batch."""

    def __init__(self, network: Network, objective: Objective, machine: Machine, workers: Workers):
        super().__init__()
        self.network = network
        self.objective = objective
        self.workers = workers
        self.machine = machine
        self.embed = torch.compile(network.embed_guided) if machine.compile else network.embed_guided

    def forward(self, log_mel: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.machine.device.type, self.machine.dtype, self.machine.dtype is not torch.float32):
            part = self.embed(self.workers.part(log_mel))
        embeddings = self.workers.gather(part.float(), len(log_mel))  # the loss is always FP32
        return self.objective.loss(self.network, embeddings, targets)


def fit(
    network: Network,
    objective: Objective,
    validation: ClipSet | None,
    recipe: Recipe,
    seed: int,
    machine: Machine,
    run: Path,
    on_step: Callable[[int, float], None] = lambda epoch, share: None,
    on_epoch: Callable[[Epoch], None] = lambda done: None,
    resume: bool = False,
    workers: Workers = Workers(),  # noqa: B008 (frozen)
) -> list[Epoch]:
    """Train the network and leave the best epoch's weights in it and in run/weights.safetensors.

    validation  chooses the best epoch; None: the last epoch is the best
    on_step     called after each step with (epoch, share of it done);  on_epoch with each epoch's numbers
    resume      continue after the last finished epoch; all randomness depends on the seed and the epoch alone,
                so that an interrupted run ends with the weights of an uninterrupted one
    returns     all epochs, those before a resumption too
    errors      RunError: the loss is not a finite number, or the run folder cannot be written
    """
    device = machine.device
    network.to(device).to(memory_format=torch.channels_last)  # a third faster on a CPU, more on a GPU
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=machine.dtype is torch.float16)
    step_module: nn.Module = _Step(network, objective, machine, workers)
    if workers.count > 1:
        share_statistics(nn.ModuleList([network.features, network.embedding]))
        step_module = nn.parallel.DistributedDataParallel(step_module, forward_sync_buffers=False)
    order = objective.order
    steps = steps_per_epoch(len(order), recipe.batch_size)
    cycle = recipe.epochs - recipe.finishing
    schedule = Schedule(optimiser, recipe.learning_rate, cycle * steps, recipe.finishing * steps)
    history = _resume(network, optimiser, scaler, run, device) if resume else []
    if history:
        optimiser.step()  # without gradients it does nothing, but the schedule insists on one before its own
    for _ in range(len(history) * steps):
        schedule.step()

    while len(history) < recipe.epochs and not should_stop(history, recipe):
        epoch = len(history) + 1
        heard = objective if epoch <= cycle else objective.finishing()
        rng = np.random.default_rng([seed, epoch])
        torch.manual_seed(int(rng.integers(2**62)))  # dropout
        started = time.perf_counter()
        network.train()
        loss_sum, correct = torch.zeros(2, device=device)
        for step, rows in enumerate(np.array_split(rng.permutation(order), steps)):
            log_mel, targets = heard.batch(rows, rng)
            loss, right = step_module(log_mel.to(device), tuple(target.to(device) for target in targets))
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.step(optimiser)
            scaler.update()
            schedule.step()
            loss_sum += loss.detach() * len(rows)
            correct += right
            on_step(epoch, (step + 1) / steps)
        seconds = time.perf_counter() - started
        validation_loss, validation_accuracy = judge(network, validation, device) if validation else (None, None)
        done = Epoch(
            epoch=epoch,
            train_loss=loss_sum.item() / len(order),
            train_accuracy=correct.item() / len(order),
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            learning_rate=schedule.rate,
            seconds=seconds,
            samples_per_second=len(order) / seconds,
        )
        if not (math.isfinite(done.train_loss) and math.isfinite(validation_loss or 0.0)):
            raise RunError(
                f"epoch {epoch}: the loss is not a finite number; lower --learning-rate "
                f"(now {recipe.learning_rate:g}); {run} keeps what came before it"
            )
        history.append(done)
        if workers.first:
            _save(network, optimiser, scaler, history, recipe, run)
        on_epoch(done)

    workers.wait()
    network.load_state_dict(load_tensors(run / WEIGHTS)[0])
    return history


def steps_per_epoch(n_windows: int, batch_size: int) -> int:
    """Batches of nearly equal size: none above batch_size, and none of one window, which BatchNorm cannot take."""
    return max(1, min(-(-n_windows // batch_size), n_windows // 2))


def best_epoch(history: list[Epoch], recipe: Recipe) -> Epoch | None:
    """The epoch of the least validation loss, none before MIN_EPOCHS; without validation the last one."""
    able = [done for done in history if done.epoch >= min(MIN_EPOCHS, recipe.epochs)]
    return min(able, key=lambda done: (done.validation_loss or 0.0, -done.epoch), default=None)


def should_stop(history: list[Epoch], recipe: Recipe) -> bool:
    """Whether `patience` epochs have passed since the best one."""
    best = best_epoch(history, recipe)
    return best is not None and recipe.patience is not None and len(history) - best.epoch >= recipe.patience


@torch.inference_mode()
def embed_clips(network: Network, clips: ClipSet, device: torch.device) -> Tensor:
    """Each clip's embedding, the mean of its windows': [n_clips, 128] on the CPU. Sets eval mode."""
    network.eval()
    rows = []
    for some in np.array_split(clips.clips, -(-len(clips.clips) // EMBED_CLIPS)):
        windows = [torch.from_numpy(clips.frames.cut(int(clip))) for clip in some]
        embeddings = network.embed(torch.cat(windows).to(device))  # [n_windows of all, 128]
        rows += [part.mean(dim=0) for part in embeddings.split([len(part) for part in windows])]
    return torch.stack(rows).cpu()


@torch.inference_mode()
def judge(network: Network, clips: ClipSet, device: torch.device) -> tuple[float, float]:
    """Cross-entropy and accuracy of the training head over clips."""
    return judge_embeddings(network, embed_clips(network, clips, device), clips.labels, device)


@torch.inference_mode()
def judge_embeddings(
    network: Network, embeddings: Tensor, labels: NDArray[np.int64], device: torch.device
) -> tuple[float, float]:
    """Cross-entropy and accuracy of the training head over clips' embeddings [n_clips, 128], in eval mode."""
    scores = network.classify(embeddings.to(device)).cpu()
    wanted = torch.from_numpy(labels)
    return nn.functional.cross_entropy(scores, wanted).item(), (scores.argmax(1) == wanted).float().mean().item()


def _save(
    network: Network,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    history: list[Epoch],
    recipe: Recipe,
    run: Path,
) -> None:
    """The best weights first: killed between two writes, a resumed run repeats the epoch and writes them again."""
    if best_epoch(history, recipe) is history[-1]:
        save_tensors(run / WEIGHTS, network.state_dict(), {"epoch": len(history)})
    network_tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    epochs = [asdict(done) for done in history]
    facts = {"history": epochs, "scaler": scaler.state_dict()}
    save_tensors(run / LAST, network_tensors | optimiser_tensors(optimiser), facts)
    write_text(run / METRICS, "".join(json.dumps(line) + "\n" for line in epochs))


def _resume(
    network: Network, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler, run: Path, device: torch.device
) -> list[Epoch]:
    tensors, facts = load_tensors(run / LAST)
    restore(network, optimiser, {name: value.to(device) for name, value in tensors.items()})
    if scaler.is_enabled():
        scaler.load_state_dict(facts["scaler"])
    return [Epoch(**line) for line in facts["history"]]
