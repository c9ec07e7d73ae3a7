"""Training on the GPU: samples a second of one run, beside plain PyTorch with the same network, and beside the CPU."""

import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.piece import Plot, Table, Tables, number, one_line, parse
from serving.log_mel import LogMelConfig
from training.compute import Compute
from training.data.clip_frames import ClipFrames, ClipSet
from training.fit.loop import fit
from training.fit.objectives import ClassObjective
from training.fit.recipe import Recipe
from training.networks import WINDOW_FRAMES, NetworkConfig, build_network

CLASSES = 10
# Of ours: the epochs after the first one; of plain PyTorch: as many steps as an epoch has. The median counts.
ROUNDS = 3


def make_clips(count: int, frames: int) -> ClipSet:
    """Random log-mels, one window each."""
    values = np.random.default_rng(0).standard_normal((count * frames, 64)).astype(np.float32)
    counts = np.full(count, frames)
    heard, starts = np.ones(len(values), bool), np.cumsum(counts) - counts
    clips = ClipFrames(values, heard, starts, counts, np.ones(count, int), frames, LogMelConfig())
    return ClipSet(clips, np.arange(count), np.arange(count) % CLASSES)


def ours(name: str, clips: ClipSet, batch: int, compute: Compute) -> float:
    """Samples a second of an epoch, as the training command does it; the first one warms up."""
    frames = clips.frames.window_frames
    recipe = Recipe(epochs=1 + ROUNDS, batch_size=batch, mixing="sound")
    objective = ClassObjective(clips, CLASSES, recipe.mixup, recipe.gain_db, frames // 2, recipe.mixing)
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name, CLASSES, 0.2))
    with tempfile.TemporaryDirectory(prefix="unheard-training-") as run:
        history = fit(network, objective, None, recipe, 0, compute, Path(run))
    return median(epoch.samples_per_second for epoch in history[1:])


def plain(name: str, clips: ClipSet, batch: int, device: str, compiled: bool, half: bool, steps: int) -> float:
    """Samples a second of forward, backward and Adam on half windows that are on the device already."""
    place = torch.device(device)
    torch.manual_seed(0)
    network = build_network(NetworkConfig(name, CLASSES, 0.2)).to(place).train()
    frames = clips.frames.window_frames // 2
    log_mel = torch.randn(batch, frames, 64, device=place)
    labels = torch.randint(0, CLASSES, (batch,), device=place)
    optimiser = torch.optim.Adam(network.parameters())
    forward: Callable[..., torch.Tensor] = torch.compile(network) if compiled else network

    def step() -> None:
        with torch.autocast(place.type, torch.bfloat16, half):
            loss = nn.functional.cross_entropy(forward(log_mel), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    for _ in range(3):
        step()
    rates = []
    for _ in range(ROUNDS):
        _wait(place)
        started = time.perf_counter()
        for _ in range(steps):
            step()
        _wait(place)
        rates.append(steps * batch / (time.perf_counter() - started))
    return median(rates)


def _wait(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize()


def ways(name: str, batch: int, device: str, quick: bool) -> dict[str, Callable[[], float]]:
    """Each way to train: its name, and what measures its samples a second."""
    steps = 2 if quick else 50
    place, half = torch.device(device), torch.bfloat16 if device == "cuda" else torch.float32
    many, few = (make_clips(count * batch, WINDOW_FRAMES[name]) for count in (steps, min(4, steps)))
    return {
        "ours": partial(ours, name, many, batch, Compute(place, half)),
        "ours, not captured": partial(ours, name, many, batch, Compute(place, half, capture=False)),
        "plain PyTorch, eager": partial(plain, name, many, batch, device, False, False, steps),
        "plain PyTorch, autocast": partial(plain, name, many, batch, device, False, True, steps),
        "ours, CPU": partial(ours, name, few, batch, Compute(torch.device("cpu"))),
        "ours, compiled": partial(ours, name, many, batch, Compute(place, half, compile=True)),
        "plain PyTorch, compiled": partial(plain, name, many, batch, device, True, True, steps),
    }


def measure(title: str, measured: Mapping[str, Callable[[], float]], tables: Tables) -> None:
    """Measure ways by their names, and write a table of them."""
    rows: list[list[str]] = []
    rates: dict[str, float] = {}
    for name, work in measured.items():
        try:
            rates[name] = work()
        except Exception as error:  # of any kind: the other ways are measured all the same
            rows.append([name, "-", one_line(error)])
        else:
            rows.append([name, number(rates[name]), ""])
        tables.put(_table(title, rows, rates))


def _table(title: str, rows: list[list[str]], rates: dict[str, float]) -> Table:
    notes = (
        "half windows",
        "ours: whole epochs, with crops, gain and mixing; plain: the step alone, its windows there",
        f"median of {ROUNDS} epochs, and of {ROUNDS} times the steps of one; one way after the other",
    )
    plot = Plot(title, "", "samples/s", {key: [(0.0, rate)] for key, rate in rates.items()}, True)
    return Table(title, ["way, batch", "samples/s", "note"], rows, notes, plot, rates)


def main() -> None:
    """Measure and write the tables."""
    options = parse("training")
    tables = Tables(options.json)
    networks, batches = (("yamnet-compact",), (4,)) if options.quick else (("yamnet", "yamnet-compact"), (16, 64))
    compiled: dict[str, Callable[[], float]] = {}
    for network in networks:
        chosen: dict[str, Callable[[], float]] = {}
        for batch in batches:
            for name, work in ways(network, batch, options.device, options.quick).items():
                if "compiled" not in name and (name, batch) != ("ours, CPU", 64):
                    chosen[f"{name}, {batch}"] = work
                elif "compiled" in name and batch == batches[0]:
                    compiled[f"{network}: {name}, {batch}"] = work
        measure(f"Training {network}: samples a second", chosen, tables)
    if not options.quick:  # the last ones: compiling takes long
        for name, work in compiled.items():
            measure(f"Training {name}: samples a second", {name: work}, tables)


if __name__ == "__main__":
    main()
