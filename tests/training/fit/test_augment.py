"""What training does to its windows: speed, gain, and two ways of mixing."""

import numpy as np
import pytest
import torch

from serving.log_mel import LogMelConfig
from training.fit.augment import (
    change_speed,
    draw_gains,
    draw_partners,
    draw_speeds,
    frames_read,
    mix_sounds,
    mixup,
    random_gain,
)
from training.log_mel_module import LogMel
from training.options import Options, recipe_of

OFFSET = 0.01
BANDS = 8


def log_mel(mel: torch.Tensor) -> torch.Tensor:
    return torch.log(mel + OFFSET)


def one_band_each(gains: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-mel [batch, 10, 8] of sounds that have one band each, the row's own, and their classes [batch, 8]."""
    mel = torch.zeros(len(gains), 10, BANDS)
    for row, gain in enumerate(gains):
        mel[row, :, row] = gain
    return log_mel(mel), torch.eye(BANDS)[: len(gains)]


def partners(seed: int, count: int, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
    share, other = draw_partners(np.random.default_rng(seed), count, alpha)
    return torch.from_numpy(share).float(), torch.from_numpy(other)


def gains_of_64() -> torch.Tensor:
    return torch.from_numpy(draw_gains(np.random.default_rng(0), 64, 6.0)).float()


def test_a_gain_scales_the_magnitudes_and_keeps_silence():
    mel = torch.rand(64, 10, BANDS) + 0.1
    mel[:, 5] = 0.0
    got = torch.exp(random_gain(log_mel(mel), gains_of_64(), OFFSET)) - OFFSET
    gains = (got[:, 0] / mel[:, 0]).mean(dim=1)
    assert 10 ** (-6 / 20) <= float(gains.min()) < 0.7 < 1.4 < float(gains.max()) <= 10 ** (6 / 20)
    torch.testing.assert_close(got, gains[:, None, None] * mel, atol=1e-5, rtol=1e-4)


def chirp_with_beeps(speed: float) -> torch.Tensor:
    """The log-mel [1, frames, 64] of five seconds of a recording that is played at this speed."""
    config = LogMelConfig()
    time_s = np.arange(5 * config.rate_hz) / config.rate_hz * speed
    beeps = np.sin(2 * np.pi * 2500 * time_s) * (np.sin(2 * np.pi * 2 * time_s) > 0)
    wave = 0.3 * np.sin(2 * np.pi * (600 * time_s + 300 * time_s**2)) + 0.1 * beeps
    return LogMel(config)(torch.from_numpy(wave.astype(np.float32))[None])


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.25])
def test_another_speed_is_nearly_the_log_mel_of_the_recording_played_at_it(speed):
    frames = 240
    read, wanted = chirp_with_beeps(1.0)[:, : frames_read(frames, 1.25)], chirp_with_beeps(speed)[:, :frames]
    got = change_speed(read, torch.tensor([speed]), frames, LogMelConfig())
    unchanged = float((read[:, :frames] - wanted).abs().mean())
    assert float((got - wanted).abs().mean()) < 0.2 * unchanged  # the window of 25 ms is not stretched


def test_the_own_speed_changes_nothing_and_each_window_has_its_own():
    read = torch.randn(2, frames_read(50, 1.25), 64)
    got = change_speed(read, torch.tensor([1.0, 1.25]), 50, LogMelConfig())
    torch.testing.assert_close(got[0], read[0, :50], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(got[1], read[1, :50], atol=0.1)


def test_speeds_are_as_often_slower_as_faster():
    speeds = draw_speeds(np.random.default_rng(0), 10_000, 1.25)
    assert 0.8 <= speeds.min() < 0.81
    assert 1.24 < speeds.max() <= 1.25
    assert np.mean(speeds > 1) == pytest.approx(0.5, abs=0.02)


def test_mixup_mixes_log_mels_and_targets_by_the_same_share():
    values, targets = torch.randn(6, 10, BANDS), torch.eye(6)
    mixed, shares = mixup(values, targets, *partners(0, 6, 0.5))
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(mixed, torch.einsum("ij,jfb->ifb", shares, values))
    assert not torch.equal(shares, targets)


def test_a_share_of_a_sound_is_one_of_its_loudness_however_loud_it_was():
    values, targets = one_band_each([0.1, 10.0, 1.0, 50.0, 0.3, 5.0])
    mixed, shares = mix_sounds(values, targets, *partners(1, 6, 1.0), OFFSET)
    mel = torch.exp(mixed) - OFFSET
    mixtures = 0
    for row in range(6):
        parts = torch.nonzero(shares[row] > 0.01).flatten().tolist()
        if len(parts) == 2:
            a, b = parts
            ratio = float(mel[row, 0, a] / mel[row, 0, b])
            assert ratio == pytest.approx(float(shares[row, a] / shares[row, b]), rel=0.05)  # SILENCE is in it
            mixtures += 1
    assert mixtures >= 3


def test_magnitudes_add_up_and_not_their_logarithms():
    mel = torch.rand(2, 10, BANDS) + 0.5
    mixed, shares = mix_sounds(log_mel(mel), torch.eye(2), *partners(3, 2, 1.0), OFFSET)
    got = torch.exp(mixed) - OFFSET
    for row in range(2):
        basis = mel.reshape(2, -1).T.double()
        weights = torch.linalg.lstsq(basis, got[row].reshape(-1, 1).double()).solution.flatten()
        torch.testing.assert_close((basis @ weights).float(), got[row].flatten(), atol=1e-4, rtol=1e-4)
        assert float(weights.norm()) == pytest.approx(1.0, abs=1e-3)
        assert not torch.allclose(mixed[row], torch.einsum("j,jfb->fb", shares[row], log_mel(mel)), atol=1e-3)


@pytest.mark.parametrize("gains", [[0.0, 0.0], [0.0, 1.0], [1e-6, 1e3]])
def test_silence_mixes_to_finite_numbers_at_most_3_db_louder(gains):
    values, targets = one_band_each(gains)
    for seed in range(5):
        mixed, shares = mix_sounds(values, targets, *partners(seed, 2, 0.3), OFFSET)
        assert bool(torch.isfinite(mixed).all())
        assert float(torch.exp(mixed).max()) - OFFSET <= 2**0.5 * max(gains) + 1e-4  # a sound mixed with itself
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize(
    ("flags", "mixing"),
    [
        ({"objective": "classes"}, "sound"),
        ({"objective": "classes", "network": "yamnet-compact"}, "sound"),
        ({"objective": "classes", "network": "vggish"}, "log-mel"),
        ({"objective": "classes", "network": "vggish", "mixing": "sound"}, "sound"),
        ({"objective": "text"}, "log-mel"),
    ],
)
def test_each_recipe_mixes_what_was_measured_with_it(flags, mixing):
    assert recipe_of(Options(**flags)).mixing == mixing
