"""training.evaluation.noise: synthesised noise, and from which cosine a sound counts as noise."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from serving.audio import level_dbfs
from serving.errors import BundleError
from serving.log_mel import LogMelConfig
from serving.zeroshot import ZeroShot
from serving.zeroshot.zeroshot_file import read_zeroshot, write_zeroshot
from training.evaluation.noise import coloured_noise, with_noise
from training.networks import NetworkConfig, build_network

RATE_HZ = 16_000


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_the_power_of_noise_falls_with_its_colour_and_its_peak_has_the_level(colour):
    wave = coloured_noise(colour, -12, RATE_HZ, seed=0)
    assert level_dbfs(wave) == pytest.approx(-12, abs=0.01)
    power, hz = np.abs(np.fft.rfft(wave)) ** 2, np.fft.rfftfreq(len(wave), 1 / RATE_HZ)
    low, high = (power[(hz > f) & (hz < 2 * f)].mean() for f in (200, 1600))
    assert low / high == pytest.approx(8**colour, rel=0.15)  # an octave has 1000 bins or more: 3 % of sampling error
    assert power[hz < 20].max() < 1e-6 * power.max()


def test_no_clip_of_the_data_is_noise_and_noise_far_from_them_is():
    torch.manual_seed(0)
    network = build_network(NetworkConfig("yamnet-compact", n_classes=3, dropout=0.0)).eval()
    config = SimpleNamespace(front_end=LogMelConfig(), window_frames=480)
    identity = np.eye(128, dtype=np.float32)
    zeroshot = ZeroShot(np.zeros(128, np.float32), identity, ["a"], identity[:1], np.array([True]), 1.0)
    clips = np.float32(np.random.default_rng(0).standard_normal((20, 128)))  # like no sound
    known, found = with_noise(zeroshot, network, config, clips, torch.device("cpu"))
    assert found == 1.0
    assert known.noise.shape == (15, 128)
    np.testing.assert_allclose(np.linalg.norm(known.noise, axis=1), 1, rtol=1e-5)
    assert not known.is_noise(clips).any()
    assert (known.noise_thresholds > (zeroshot.place(clips) @ known.noise.T).max(axis=0)).all()
    assert (known.noise_thresholds < 1).all()


def test_a_file_with_noise_but_without_its_thresholds_is_refused(tmp_path):
    identity = np.eye(128, dtype=np.float32)
    known = ZeroShot(
        np.zeros(128, np.float32), identity, ["a"], identity[:1], np.array([True]), 1.0,
        noise=identity[:2], noise_thresholds=np.float32([0.5, 0.5]),
    )  # fmt: skip
    write_zeroshot(known, tmp_path / "zeroshot.npz")
    with np.load(tmp_path / "zeroshot.npz") as stored:
        arrays = {name: stored[name] for name in stored if name != "noise_thresholds"}
    np.savez(tmp_path / "half.npz", **arrays)
    with pytest.raises(BundleError, match="only one of noise and noise_thresholds"):
        read_zeroshot(tmp_path / "half.npz")
