"""The acoustic vocabulary: sounds that are what their words say, the same for the same seed, and cached."""

import numpy as np
import pytest

from serving.log_mel import LogMelConfig
from training.synthesis.vocabulary import N_SAMPLES, RATE_HZ, draw_qualities, draw_sound, load_vocabulary

CONFIG = LogMelConfig()


def sounds(count: int) -> list[tuple[np.ndarray, str]]:
    return [draw_sound(np.random.default_rng([0, index])) for index in range(count)]


def centre_hz(wave: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(wave)) ** 2
    return float((power * np.fft.rfftfreq(len(wave), 1 / RATE_HZ)).sum() / power.sum())


def active_share(wave: np.ndarray) -> float:
    """Share of 50 ms frames within 20 dB of the loudest."""
    rms = np.sqrt(np.square(wave[: len(wave) // 800 * 800].reshape(-1, 800)).mean(axis=1))
    return float((rms > rms.max() / 10).mean())


def test_sounds_are_whole_waves_with_words():
    for wave, text in sounds(40):
        assert wave.shape == (N_SAMPLES,)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        assert 0 < np.abs(wave).max() <= 1
        assert len(text.split()) >= 2


def test_the_same_seed_gives_the_same_sound():
    (wave, text), (again, same_text) = (draw_sound(np.random.default_rng([3, 5])) for _ in range(2))
    assert (wave == again).all()
    assert text == same_text
    assert draw_qualities(np.random.default_rng([3, 5]))[1] == text


def test_words_are_true_of_the_sounds():
    drawn = sounds(300)
    loud = [np.abs(wave).max() for wave, text in drawn if text.startswith("loud")]
    quiet = [np.abs(wave).max() for wave, text in drawn if text.startswith("quiet")]
    assert min(loud) > max(quiet)
    noise = {word: [centre_hz(wave) for wave, text in drawn if word in text] for word in ("rumbling", "hissing")}
    assert np.median(noise["rumbling"]) < 600 < 3000 < np.median(noise["hissing"])
    lasting = np.median([active_share(wave) for wave, text in drawn if "continuous" in text and "swell" not in text])
    single = np.median([active_share(wave) for wave, text in drawn if "abrupt" in text or "single" in text])
    assert single < 0.3 < 0.9 < lasting


def test_the_cache_gives_back_what_was_synthesised(tmp_path):
    window = CONFIG.network_window(480)
    first = load_vocabulary(6, 1, CONFIG, window, tmp_path)
    again = load_vocabulary(6, 1, CONFIG, window, tmp_path)
    assert first.texts == again.texts
    assert (np.array(first.frames.values) == np.array(again.frames.values)).all()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".lock"]  # the sounds, and who made them
    other = load_vocabulary(6, 2, CONFIG, window, tmp_path)
    assert not np.array_equal(first.frames.values, other.frames.values)


@pytest.mark.parametrize("frames", [96, 480])
def test_every_network_window_fits(frames, tmp_path):
    vocabulary = load_vocabulary(3, 0, CONFIG, CONFIG.network_window(frames), tmp_path)
    assert (vocabulary.frames.counts >= frames).all()
    assert len(vocabulary.texts) == len(vocabulary.frames.counts) == 3
