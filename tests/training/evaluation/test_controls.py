"""The control without a network: log-mel statistics of clips."""

import numpy as np
import pytest
import soundfile

from serving.log_mel import LogMelConfig
from training.data.clips import LabelledClip
from training.data.frame_cache import load_frames
from training.evaluation.controls import clip_statistics, log_mel_statistics

CONFIG = LogMelConfig()


def test_statistics_are_means_deviations_and_steps_of_each_band():
    frames = np.zeros((4, 64), np.float32)
    frames[:, 0] = [1, 3, 1, 3]
    frames[:, 63] = [0, 1, 2, 3]
    found = log_mel_statistics(frames)
    assert found.shape == (192,)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[[0, 64, 128]], [2, 1, 2])
    np.testing.assert_allclose(found[[63, 127, 191]], [1.5, np.sqrt(1.25), 1])
    assert np.count_nonzero(found) == 6


def test_one_frame_has_no_deviation_and_no_step():
    found = log_mel_statistics(np.full((1, 64), -2.0, np.float32))
    np.testing.assert_array_equal(found, [-2.0] * 64 + [0.0] * 128)


def test_no_frame_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        log_mel_statistics(np.zeros((0, 64), np.float32))


@pytest.fixture
def clips(tmp_path) -> list[LabelledClip]:
    """Noise of several lengths and levels, and silence: none of whole windows."""
    rng = np.random.default_rng(0)
    found = []
    for i, (n_samples, level) in enumerate([(40_000, 0.1), (90_001, 0.5), (500, 0.1), (20_000, 0.0)]):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, level * rng.standard_normal(n_samples).clip(-2, 2), 16_000, subtype="FLOAT")
        found.append(LabelledClip(path, 0, str(i), None))
    return found


def test_zeros_that_a_window_adds_do_not_count(clips, tmp_path):
    long = clips[:2]
    loaded = [load_frames(long, CONFIG, CONFIG.network_window(frames), tmp_path / "cache") for frames in (96, 480)]
    assert loaded[1].counts[0] > loaded[0].counts[0] + 100  # 2.5 s, padded to 4.8 s
    few, many = (clip_statistics(frames) for frames in loaded)
    np.testing.assert_allclose(few, many, atol=0.1)
    padded = loaded[1].values[: loaded[1].counts[0]]
    assert np.abs(log_mel_statistics(padded) - few[0])[:64].min() > 0.5


def test_each_clip_has_the_statistics_of_its_own_frames_alone(clips, tmp_path):
    window = CONFIG.network_window(96)
    together = clip_statistics(load_frames(clips, CONFIG, window, tmp_path / "cache"))
    alone = [clip_statistics(load_frames([clip], CONFIG, window, tmp_path / "cache"))[0] for clip in clips]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0, :64] - together[1, :64]).min() > 1  # five times louder: ln 5 more
    np.testing.assert_allclose(together[3], [np.log(CONFIG.log_offset)] * 64 + [0.0] * 128, atol=1e-5)
