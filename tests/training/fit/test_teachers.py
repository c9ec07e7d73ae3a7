"""A network learns the answers of its teachers beside the true classes."""

import pytest
import torch
from safetensors.torch import load_file

from tests.training.test_training import arguments, one_line
from training.compute import Compute
from training.fit.teachers import ANSWER_SHARE, Teachers
from training.networks import NetworkConfig, build_network
from training.run import main
from training.run_folder import LAST, METRICS, SUMMARY, WEIGHTS

CPU = Compute(torch.device("cpu"))


def test_targets_are_the_true_classes_and_the_mean_of_the_teachers_probabilities():
    torch.manual_seed(0)
    networks = [build_network(NetworkConfig("yamnet-compact", 3, 0.2)).eval() for _ in range(2)]
    log_mel, true = torch.randn(4, 100, 64), torch.eye(3)[[0, 1, 2, 0]]
    taught = Teachers(tuple(networks), CPU).teach(log_mel, true)
    with torch.inference_mode():
        answers = sum(network(log_mel).softmax(1) for network in networks) / 2
    torch.testing.assert_close(taught, (1 - ANSWER_SHARE) * true + ANSWER_SHARE * answers)
    torch.testing.assert_close(taught.sum(1), torch.ones(4))
    assert not taught.requires_grad


def same(a, b) -> bool:
    whole, other = load_file(a / WEIGHTS), load_file(b / WEIGHTS)
    return whole.keys() == other.keys() and all(torch.equal(whole[name], other[name]) for name in whole)


@pytest.mark.parametrize("objective", ["classes", "text"])
def test_teachers_are_trained_first_and_change_what_is_learned(recordings, tmp_path, objective):
    flags = ["--epochs", "1", "--objective", objective]
    assert main(arguments(recordings, tmp_path / "alone", *flags)) == 0
    assert main(arguments(recordings, tmp_path / "taught", *flags, "--teachers", "2")) == 0
    alone, taught = tmp_path / "alone", tmp_path / "taught"
    assert not same(taught / "teacher-1", taught / "teacher-2")
    assert not same(taught / "teacher-1", alone)
    assert not same(taught, alone)


def test_a_run_interrupted_after_a_teacher_is_resumed_and_ends_with_the_same_weights(recordings, tmp_path):
    flags = ["--epochs", "2", "--teachers", "2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(arguments(recordings, whole, *flags)) == 0
    assert main(arguments(recordings, cut, *flags)) == 0
    for name in (WEIGHTS, LAST, METRICS, SUMMARY, f"teacher-2/{WEIGHTS}", f"teacher-2/{LAST}"):
        (cut / name).unlink()
    kept = (cut / "teacher-1" / WEIGHTS).stat().st_mtime_ns
    assert main(arguments(recordings, cut, *flags, "--resume")) == 0
    assert (cut / "teacher-1" / WEIGHTS).stat().st_mtime_ns == kept
    assert all(same(cut / name, whole / name) for name in (".", "teacher-1", "teacher-2"))


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--teachers", "-1"], ["--teachers: got -1; wanted 0 to 16"]),
        (["--teachers", "17"], ["--teachers: got 17; wanted 0 to 16"]),
        (
            ["--teachers", "1", "--network", "yamnet-audioset", "--objective", "whitening", "--init", "w.tflite"],
            ["--teachers: got 1; with --objective whitening nothing is trained: 0"],
        ),
    ],
)
def test_wrong_numbers_of_teachers_get_one_line(recordings, tmp_path, capsys, flags, parts):
    one_line(capsys, main(arguments(recordings, tmp_path / "run", *flags)), *parts)
