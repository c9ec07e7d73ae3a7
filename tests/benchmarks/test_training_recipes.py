"""The recipes of the training benchmark do equal work."""

from pathlib import Path

import pytest
import torch

from benchmarks.inputs import input_clips
from benchmarks.training.recipes import CLASSES, CroppedFiles, PlainRecipe
from training.networks import NetworkConfig


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_the_plain_recipe_decodes_in_one_thread_as_ours_does(two_threads, tmp_path, monkeypatch):
    real, threads = CroppedFiles.wave, []

    def wave(self: CroppedFiles, path: Path) -> torch.Tensor:
        threads.append(torch.get_num_threads())
        return real(self, path)

    monkeypatch.setattr(CroppedFiles, "wave", wave)
    with input_clips(None, 0.1, 2).as_files() as paths:
        plain = PlainRecipe(NetworkConfig("yamnet-compact", CLASSES, 0.2), paths, 480, 2, 2, tmp_path)
        assert [len(wave) for wave in plain.decode()] == [1600, 1600]
    assert threads == [1, 1]
    assert torch.get_num_threads() == 2
