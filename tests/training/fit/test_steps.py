"""Captured steps compute what the steps do that PyTorch runs kernel by kernel."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from serving.log_mel import LogMelConfig
from tests.gpu import needs_gpu
from training.compute import Compute
from training.data.clip_frames import ClipFrames, ClipSet
from training.fit import loop
from training.fit.draws import cut_on_cpu
from training.fit.loop import fit
from training.fit.objectives import ClassObjective, JointObjective, VocabularyObjective
from training.fit.recipe import Recipe
from training.fit.steps import CapturedSteps
from training.networks import NetworkConfig, build_network

FRAMES, CLASSES, TEXT = 480, 3, 6
CPU = torch.device("cpu")


def frames_of(count: int, seed: int) -> ClipFrames:
    counts = FRAMES + 10 * np.arange(count)
    values = np.random.default_rng(seed).uniform(-4, 1, (counts.sum(), 64)).astype(np.float32)
    heard, starts = np.ones(len(values), bool), np.cumsum(counts) - counts
    return ClipFrames(values, heard, starts, counts, np.ones(count, int), FRAMES, LogMelConfig())


def class_objective(mixing: str, speed: float = 1.0) -> ClassObjective:
    clips = ClipSet(frames_of(7, 0), np.arange(7), np.arange(7) % CLASSES)
    return ClassObjective(clips, CLASSES, 0.3, 6.0, FRAMES // 4, mixing, speed)


def joint_objective() -> JointObjective:
    vectors = np.random.default_rng(1).standard_normal((5, TEXT)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vocabulary = SimpleNamespace(frames=frames_of(5, 2))
    return JointObjective(class_objective("log-mel"), VocabularyObjective(vocabulary, vectors, FRAMES // 4))


OBJECTIVES = {
    "log-mel": (lambda: class_objective("log-mel"), 0),
    "sound": (lambda: class_objective("sound"), 0),
    "speed": (lambda: class_objective("sound", 1.25), 0),
    "joint": (joint_objective, TEXT),
}


def trained(objective, text_size, run, compute, epochs=3, resume=False):
    """Train on 7 clips in batches of 3, 2 and 2. Returns the weights and the epochs."""
    torch.manual_seed(0)
    network = build_network(NetworkConfig("yamnet-compact", CLASSES, 0.2, text_size))
    if text_size:
        network.head.class_vectors.copy_(torch.nn.functional.normalize(torch.randn(CLASSES, text_size), dim=1))
    run.mkdir(exist_ok=True)
    history = fit(
        network, objective, None, Recipe(epochs=epochs, finishing=1, batch_size=3), 0, compute, run, resume=resume
    )
    return {name: value.clone() for name, value in network.state_dict().items()}, history


def again(work):
    """In place of a CUDA graph: warm up as a capture does, and then do the work itself."""
    for _ in range(4):
        work()
    return work


@pytest.fixture
def captured(monkeypatch):
    """Steps on the CPU take the way of captured ones."""
    monkeypatch.setattr(loop, "EpochSteps", partial(CapturedSteps, capture=again, cut=cut_on_cpu))


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_captured_steps_end_with_the_same_weights_to_the_last_bit(kind, tmp_path, monkeypatch):
    make, text_size = OBJECTIVES[kind]
    expected, epochs = trained(make(), text_size, tmp_path / "eager", Compute(CPU))
    monkeypatch.setattr(loop, "EpochSteps", partial(CapturedSteps, capture=again, cut=cut_on_cpu))
    weights, captured_epochs = trained(make(), text_size, tmp_path / "captured", Compute(CPU))
    assert [epoch.train_loss for epoch in captured_epochs] == [epoch.train_loss for epoch in epochs]
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_a_captured_run_that_is_resumed_ends_with_the_weights_of_an_uninterrupted_one(captured, tmp_path):
    expected, _ = trained(class_objective("sound"), 0, tmp_path / "whole", Compute(CPU))
    cut = tmp_path / "cut"
    with pytest.MonkeyPatch.context() as patch:
        save = loop._Training.save

        def save_and_stop(self, history, run):
            save(self, history, run)
            if len(history) == 2:
                raise KeyboardInterrupt

        patch.setattr(loop._Training, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            trained(class_objective("sound"), 0, cut, Compute(CPU))
    weights, _ = trained(class_objective("sound"), 0, cut, Compute(CPU), resume=True)
    assert all(torch.equal(weights[name], value) for name, value in expected.items())


def test_a_step_that_cannot_be_captured_runs_kernel_by_kernel_with_one_warning(tmp_path, monkeypatch, capsys):
    expected, _ = trained(class_objective("sound"), 0, tmp_path / "eager", Compute(CPU))

    def refuse(work):
        work()
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    real = loop._Training.__init__

    def with_captured(self, *given):
        real(self, *given)
        parts = (self.step, self._backward, self._optimise, self.network, self.device)
        self.captured = CapturedSteps(*parts, capture=refuse, cut=cut_on_cpu)

    monkeypatch.setattr(loop._Training, "__init__", with_captured)
    weights, _ = trained(class_objective("sound"), 0, tmp_path / "refused", Compute(CPU))
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert capsys.readouterr().err.count("cannot be captured") == 1


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_on_a_gpu_captured_steps_have_the_losses_of_the_others(kind, tmp_path, capsys):
    """Kernels that add in another order change the last bits, and training spreads them: 2 % after three epochs."""
    make, text_size = OBJECTIVES[kind]
    cuda = torch.device("cuda")
    _, expected = trained(make(), text_size, tmp_path / "eager", Compute(cuda, capture=False))
    _, epochs = trained(make(), text_size, tmp_path / "captured", Compute(cuda))
    losses, wanted = ([epoch.train_loss for epoch in history] for history in (epochs, expected))
    np.testing.assert_allclose(losses, wanted, rtol=0.02)
    assert "cannot be captured" not in capsys.readouterr().err


@pytest.mark.gpu
@needs_gpu
def test_a_run_on_a_gpu_is_resumed_with_the_same_crops_and_nearly_the_same_losses(tmp_path):
    """On a GPU the order of additions may change between runs, so the weights are not equal to the last bit."""
    cuda = torch.device("cuda")
    _, expected = trained(class_objective("sound"), 0, tmp_path / "whole", Compute(cuda), epochs=4)
    run = tmp_path / "cut"
    with pytest.MonkeyPatch.context() as patch:
        save = loop._Training.save

        def save_and_stop(self, history, folder):
            save(self, history, folder)
            if len(history) == 2:
                raise KeyboardInterrupt

        patch.setattr(loop._Training, "save", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            trained(class_objective("sound"), 0, run, Compute(cuda), epochs=4)
    _, epochs = trained(class_objective("sound"), 0, run, Compute(cuda), epochs=4, resume=True)
    np.testing.assert_allclose(
        [epoch.train_loss for epoch in epochs], [epoch.train_loss for epoch in expected], rtol=0.02
    )
