"""The finishing epochs: their learning rates, their windows, and how many there are."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from serving.log_mel import LogMelConfig
from training.data.clip_frames import ClipFrames, ClipSet
from training.fit.loop import Schedule
from training.fit.objectives import ClassObjective, make_batch
from training.options import Options, recipe_of

WINDOW = 480


def rates(cycle_steps: int, finishing_steps: int) -> list[float]:
    """The learning rate of every step."""
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    schedule = Schedule(optimiser, 1e-3, cycle_steps, finishing_steps)
    taken = []
    for _ in range(cycle_steps + finishing_steps):
        taken.append(schedule.rate)
        optimiser.step()
        schedule.step()
    return taken


def test_the_cycle_is_the_same_with_and_without_a_finish():
    assert rates(40, 10)[:40] == rates(40, 0)
    assert max(rates(40, 0)) == pytest.approx(1e-3, rel=0.01)


def test_the_finish_falls_straight_from_a_fifth_of_the_largest_rate():
    finish = rates(40, 10)[40:]
    assert finish[0] == pytest.approx(2e-4)
    assert [a - b for a, b in pairwise(finish)] == pytest.approx([2e-5] * 9)
    assert finish[-1] == pytest.approx(2e-5)


def test_the_finish_hears_whole_windows_and_pure_classes():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3 * WINDOW, 64)).astype(np.float32)
    starts, counts, windows = WINDOW * np.arange(3), np.full(3, WINDOW), np.ones(3, np.int64)
    clips = ClipSet(
        ClipFrames(values, np.ones(3 * WINDOW, bool), starts, counts, windows, WINDOW, LogMelConfig()),
        np.arange(3),
        np.array([0, 1, 2]),
    )
    objective = ClassObjective(clips, 3, mixup=0.3, gain_db=0.0, crop_frames=WINDOW // 2)
    before, (mixed,) = make_batch(objective, np.array([0, 1, 2]), rng)
    assert before.shape == (3, WINDOW // 2, 64)
    assert not torch.equal(mixed, torch.eye(3))
    heard, (targets,) = make_batch(objective.finishing(), np.array([2, 0, 1]), rng)
    assert torch.equal(targets, torch.eye(3)[[2, 0, 1]])
    floor = float(np.log(LogMelConfig().log_offset))  # what the gain takes apart and puts together again
    wanted = np.maximum(values, floor).reshape(3, WINDOW, 64)[[2, 0, 1]]
    np.testing.assert_allclose(heard.numpy(), wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("flags", "epochs", "finishing"),
    [
        ({"objective": "classes"}, 160, 20),
        ({"objective": "classes", "epochs": 20}, 20, 2),
        ({"objective": "classes", "network": "yamnet-compact"}, 160, 20),
        ({"objective": "classes", "epochs": 5}, 5, 0),
        ({"objective": "classes", "finishing_epochs": 0}, 160, 0),
        ({"objective": "classes", "network": "vggish"}, 11, 1),
        ({"objective": "text"}, 100, 12),
        ({"objective": "text", "epochs": 60}, 60, 7),
        ({"objective": "text", "network": "yamnet-compact", "finishing_epochs": 2}, 100, 2),
        ({"objective": "text", "network": "vggish"}, 8, 0),
    ],
)
def test_a_recipe_finishes_with_a_share_of_its_epochs(flags, epochs, finishing):
    recipe = recipe_of(Options(**flags))
    assert (recipe.epochs, recipe.finishing) == (epochs, finishing)


@pytest.mark.parametrize(
    ("flags", "batch_size", "learning_rate"),
    [
        ({"objective": "text"}, 64, 2e-3),
        ({"objective": "text", "batch_size": 16}, 16, 1e-3),
        ({"objective": "text", "batch_size": 16, "learning_rate": 3e-3}, 16, 3e-3),
        ({"objective": "text", "network": "yamnet-compact"}, 64, 2e-3),
        ({"objective": "text", "batch_size": 16, "vocabulary": 0}, 16, 2e-3),
        ({"objective": "classes"}, 64, 2e-3),
        ({"objective": "classes", "batch_size": 16}, 16, 1e-3),
        ({"objective": "classes", "network": "yamnet-compact", "dataset": "folder"}, 16, 2e-3),
        ({"objective": "text", "network": "yamnet-compact", "dataset": "folder"}, 64, 2e-3),
        ({"objective": "classes", "network": "vggish"}, 16, 1e-3),
        ({"objective": "text", "network": "vggish", "batch_size": 64}, 64, 1e-3),
    ],
)
def test_each_recipe_has_the_rate_that_was_measured_with_its_batches(flags, batch_size, learning_rate):
    recipe = recipe_of(Options(**flags))
    assert (recipe.batch_size, recipe.learning_rate) == (batch_size, learning_rate)
