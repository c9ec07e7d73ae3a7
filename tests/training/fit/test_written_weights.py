"""Which weights a training writes, and when: no file that nobody reads, and all that a resumption needs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from serving.log_mel import LogMelConfig
from training.compute import Compute
from training.data.clip_frames import ClipFrames, ClipSet
from training.fit import loop
from training.fit.checkpoint import load_tensors, save_tensors
from training.fit.objectives import ClassObjective
from training.fit.recipe import Recipe
from training.networks import NetworkConfig, build_network
from training.run_folder import LAST, WEIGHTS

WINDOW, CLASSES, EPOCHS = 480, 3, 6


def clips() -> ClipSet:
    """Six clips of random log-mels, one window each."""
    values = np.random.default_rng(0).uniform(-4, 1, (6 * WINDOW, 64)).astype(np.float32)
    counts = np.full(6, WINDOW)
    heard, starts = np.ones(len(values), bool), np.cumsum(counts) - counts
    frames = ClipFrames(values, heard, starts, counts, np.ones(6, int), WINDOW, LogMelConfig())
    return ClipSet(frames, np.arange(6), np.arange(6) % CLASSES)


def train(run: Path | None, validation: ClipSet | None = None, resume: bool = False) -> dict[str, Tensor]:
    """Train for six epochs. Returns the weights that the network is left with."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig("yamnet-compact", CLASSES, 0.2))
    objective = ClassObjective(clips(), CLASSES, 0.3, 6.0, WINDOW // 4, "log-mel", 1.0)
    recipe = Recipe(epochs=EPOCHS, batch_size=6)
    loop.fit(network, objective, validation, recipe, 0, Compute(torch.device("cpu")), run, resume=resume)
    return {name: value.clone() for name, value in network.state_dict().items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.fixture
def written(monkeypatch) -> list[str]:
    """The names of the files of tensors that are written."""
    names: list[str] = []

    def save_and_note(path, *given):
        names.append(path.name)
        save_tensors(path, *given)

    monkeypatch.setattr(loop, "save_tensors", save_and_note)
    return names


@pytest.fixture
def rising(monkeypatch) -> None:
    """Validation losses that rise: of the six epochs the fifth, which is the first that counts, is the best."""
    losses = iter(np.arange(1.0, 100.0).tolist())
    monkeypatch.setattr(loop, "head_loss_and_accuracy", lambda *_: (next(losses), 0.5))


@pytest.mark.parametrize("validated", [False, True])
def test_a_training_without_a_folder_writes_nothing_and_ends_with_the_same_weights(
    tmp_path, written, rising, validated
):
    validation = clips() if validated else None
    in_folder = train(tmp_path, validation)
    assert load_tensors(tmp_path / WEIGHTS)[1]["epoch"] == (5 if validated else 6)
    written.clear()
    assert differing(in_folder, train(None, validation)) == []
    assert written == []


def test_without_validation_the_weights_are_written_once_beside_a_checkpoint_of_each_epoch(tmp_path, written):
    last = train(tmp_path)
    assert written == [LAST] * EPOCHS + [WEIGHTS]
    stored, facts = load_tensors(tmp_path / WEIGHTS)
    assert facts == {"epoch": EPOCHS}
    assert differing(last, stored) == []


@pytest.mark.parametrize("left", [None, 3], ids=["no weights", "the weights of an older epoch"])
def test_a_run_killed_before_its_weights_were_written_ends_with_them_when_resumed(tmp_path, written, left):
    whole = train(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    if left:
        save_tensors(tmp_path / WEIGHTS, {name: 0 * value for name, value in whole.items()}, {"epoch": left})
    assert differing(whole, train(tmp_path, resume=True)) == []
    assert differing(whole, load_tensors(tmp_path / WEIGHTS)[0]) == []


def test_the_scaled_weights_of_a_finished_run_stay_when_it_is_resumed(tmp_path, written):
    scaled = {name: 2 * value for name, value in train(tmp_path).items()}
    save_tensors(tmp_path / WEIGHTS, scaled, {"unit_length": True})
    written.clear()
    assert differing(scaled, train(tmp_path, resume=True)) == []
    assert written == []
