"""Resampling gives what a low-pass filter gives, for every rate, length and block."""

import numpy as np
import pytest
import soxr

from demo.bundle_choice import FROM_SCRATCH
from serving.audio import cut_windows, read_audio
from serving.audio.resampling import BLOCK, filter_bank, resample
from serving.cosine import worst_cosine
from serving.embedder import Embedder
from serving.pooling import pool

BANKED = [17_000, 22_050, 24_000, 44_100, 88_200]  # rates in Hz that a filter bank takes
LEFT = [8_000, 11_025, 32_000, 48_000, 96_000, 192_000, 44_101, 22_050.5]  # that soxr takes


def tone(hertz: float, rate_hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def middle(wave: np.ndarray) -> np.ndarray:
    return wave[len(wave) // 4 : -len(wave) // 4]


@pytest.mark.parametrize("rate_hz", BANKED)
@pytest.mark.parametrize("hertz", [60, 1_000, 4_321, 7_500])
def test_a_tone_that_the_front_end_hears_comes_through_sample_by_sample(rate_hz, hertz):
    got, wanted = resample(tone(hertz, rate_hz), rate_hz, 16_000), tone(hertz, 16_000)
    assert len(got) == len(wanted)
    np.testing.assert_allclose(middle(got), middle(wanted), atol=1e-5)


@pytest.mark.parametrize(
    ("rate_hz", "hertz"), [(r, h) for r in BANKED for h in (8_500, 9_000, 15_000, 40_000) if 2 * h < r]
)
def test_what_would_fold_onto_the_mel_bands_is_100_db_lower(rate_hz, hertz):
    assert np.abs(middle(resample(tone(hertz, rate_hz), rate_hz, 16_000))).max() < 0.5 * 10 ** (-100 / 20) + 5e-7


@pytest.mark.parametrize("rate_hz", BANKED)
@pytest.mark.parametrize("n_samples", [1, 2, 3, 100, 441, 442, 10_000, 44_100, 99_999])
def test_there_are_as_many_samples_as_soxr_gives_and_beyond_the_ends_is_silence(rate_hz, n_samples):
    wave = np.random.default_rng(n_samples).uniform(-0.5, 0.5, n_samples).astype(np.float32)
    got = resample(wave, rate_hz, 16_000)
    assert got.dtype == np.float32
    assert len(got) == len(soxr.resample(wave, rate_hz, 16_000, quality="HQ"))
    silence = np.zeros(rate_hz, np.float32)  # a second: a whole number of periods
    among = resample(np.concatenate([silence, wave, silence]), rate_hz, 16_000)
    np.testing.assert_allclose(got, among[16_000 : 16_000 + len(got)], atol=1e-6)


@pytest.mark.parametrize("rate_hz", [22_050, 44_100])
def test_a_long_recording_is_the_same_in_blocks(rate_hz):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, round(2.3 * BLOCK / 16_000 * rate_hz)).astype(np.float32)
    whole = resample(wave, rate_hz, 16_000)
    skipped = BLOCK // 16_000 * rate_hz  # whole seconds, so that the periods begin anew
    tail = resample(wave[skipped:], rate_hz, 16_000)
    np.testing.assert_allclose(whole[-len(tail) :][200:], tail[200:], atol=1e-6)


def test_each_new_sample_is_the_windowed_sinc_at_its_place():
    rng = np.random.default_rng(0)
    wave = rng.uniform(-0.5, 0.5, 4_410).astype(np.float32)
    bank = filter_bank(44_100, 16_000)
    assert bank is not None
    got = resample(wave, 44_100, 16_000)
    for index in (400, 799, 1_000):
        away = np.arange(len(wave)) - index * 441 / 160  # in old samples
        window = np.i0(0.1102 * 91.3 * np.sqrt(np.maximum(0, 1 - (away / bank.half) ** 2))) * (abs(away) <= bank.half)
        weights = np.sinc(away * 160 / 441) * window
        assert got[index] == pytest.approx(wave @ (weights / weights.sum()), abs=1e-6)


def test_a_constant_stays_what_it_is():
    np.testing.assert_allclose(middle(resample(np.full(44_100, 0.25, np.float32), 44_100, 16_000)), 0.25, atol=1e-6)


@pytest.mark.parametrize("rate_hz", LEFT)
def test_whole_multiples_lower_rates_and_odd_ratios_are_left_to_soxr(rate_hz):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 10_000).astype(np.float32)
    np.testing.assert_array_equal(resample(wave, rate_hz, 16_000), soxr.resample(wave, rate_hz, 16_000, quality="HQ"))


def test_doubles_and_strided_samples_give_what_their_floats_give():
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (44_100, 2))
    wanted = resample(wave[:, 1].astype(np.float32), 44_100, 16_000)
    np.testing.assert_array_equal(resample(wave[:, 1], 44_100, 16_000), wanted)


def test_on_real_recordings_embeddings_are_those_of_soxrs_best_quality(esc10):
    embedder = Embedder.load(FROM_SCRATCH, "onnxruntime")
    window = embedder.manifest.window
    for path in sorted((esc10 / "audio").glob("*.ogg"))[::8]:
        wave, rate_hz = read_audio(path)
        assert filter_bank(rate_hz, window.rate_hz)
        best = soxr.resample(wave.mean(axis=1), rate_hz, window.rate_hz, quality="VHQ")
        wanted = pool(embedder.run(cut_windows(best, window)))
        # MQ is 4e-6 off on the worst of ESC-10's 320 recordings.
        assert worst_cosine(embedder.embed(wave, rate_hz)[None], wanted[None]) > 1 - 1e-6, path.name
