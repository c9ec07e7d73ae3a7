"""The front end equals the reference, and behaves as a front end should."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from serving.backends.fft_front_end import FftLogMel
from serving.log_mel import LogMelConfig, mel_weights
from serving.probes import probe_windows
from training.log_mel_module import LogMel

CONFIG = LogMelConfig()
GOLDEN = Path(__file__).parents[1] / "golden_logmel_chirp.npz"


def log_mel(wave: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return LogMel(CONFIG)(torch.from_numpy(np.asarray(wave, np.float32))[None])[0].numpy()


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * CONFIG.rate_hz)) / CONFIG.rate_hz)


def test_log_mel_equals_the_reference_on_the_golden_chirp():
    with np.load(GOLDEN, allow_pickle=False) as golden:
        assert np.abs(log_mel(golden["waveform"]) - golden["log_mel"]).max() <= 1e-4


def test_folded_frames_give_the_magnitudes_of_the_whole_dft():
    names, windows = probe_windows(CONFIG.network_window(96))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for name, wave in zip(names, windows, strict=True):
        frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), 400)[::160]
        wanted = np.log(np.abs(np.fft.rfft(frames * hann, 512)) @ mel_weights(CONFIG) + 0.01)
        # 2.2e-4 was measured, where a full-scale tone leaves bands nearly empty; 1e-6 in noise.
        np.testing.assert_allclose(log_mel(wave), wanted, atol=5e-4, err_msg=name)


@pytest.mark.parametrize(("window_s", "hop_s"), [(0.032, 0.008), (0.020, 0.010), (0.0125, 0.0075)])
def test_other_windows_and_hops_are_folded_as_well(window_s, hop_s):
    config = replace(CONFIG, window_s=window_s, hop_s=hop_s)
    size, hop = config.window_samples, config.hop_samples
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 5_003).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), size)[::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    wanted = np.log(np.abs(np.fft.rfft(frames * hann, config.fft_bins)) @ mel_weights(config) + config.log_offset)
    np.testing.assert_allclose(LogMel(config)(torch.from_numpy(wave)[None])[0].numpy(), wanted, atol=1e-5)


def test_the_front_end_by_fft_equals_the_reference_and_the_definition_in_fp64():
    fft = FftLogMel(CONFIG)
    with np.load(GOLDEN, allow_pickle=False) as golden:
        assert np.abs(fft(golden["waveform"][None])[0] - golden["log_mel"]).max() <= 1e-4
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    for n_frames in (96, 480):
        names, windows = probe_windows(CONFIG.network_window(n_frames))
        for name, wave, got in zip(names, windows, fft(windows), strict=True):
            frames = np.lib.stride_tricks.sliding_window_view(wave.astype(np.float64), 400)[::160]
            wanted = np.log(np.abs(np.fft.rfft(frames * hann, 512)) @ mel_weights(CONFIG) + 0.01)
            # An FP32 transform was 8e-4 away, in bands that a full-scale chirp leaves nearly empty.
            np.testing.assert_allclose(got, wanted, atol=1e-6, err_msg=name)


def test_in_fp32_the_front_end_by_fft_is_off_only_where_a_tone_leaves_bands_empty():
    windows = dict(zip(*probe_windows(CONFIG.network_window(480)), strict=True))
    for name, wave in windows.items():
        precise, quick = FftLogMel(CONFIG)(wave[None]), FftLogMel(CONFIG, precise=False)(wave[None])
        # 8.4e-4 was measured for the chirp at full scale, 3e-6 for noise and what changes little.
        np.testing.assert_allclose(quick, precise, atol=1e-5 if "noise" in name else 2e-3, err_msg=name)


@pytest.mark.parametrize(
    "changes",
    [{}, {"mel_bands": 40}, {"mel_bands": 128}, {"low_hz": 60.0, "high_hz": 8_000.0}, {"log_offset": 0.001}],
)
@pytest.mark.parametrize("n_frames", [1, 239, 240, 241, 700])
def test_the_front_end_by_fft_takes_any_number_of_frames_and_bands(changes, n_frames):
    config = replace(CONFIG, **changes)
    size = config.network_window(n_frames).samples + 159  # of a frame that is not whole
    waves = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 2 * size)).astype(np.float32)[:, ::2]  # not contiguous
    frames = np.lib.stride_tricks.sliding_window_view(waves.astype(np.float64), 400, axis=1)[:, ::160]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    wanted = np.log(np.abs(np.fft.rfft(frames * hann, 512)) @ mel_weights(config) + config.log_offset)
    np.testing.assert_allclose(FftLogMel(config)(waves), wanted, atol=1e-6)


@pytest.mark.parametrize(("log_offset", "atol"), [(0.01, 5e-4), (0.001, 5e-3)])
def test_both_front_ends_give_the_same_whatever_the_log_offset(log_offset, atol):
    # The graph's is FP32, and rounds most where a full-scale tone leaves bands nearly empty: 2.2e-4 was seen with 0.01,
    # 1.5e-3 with 0.001, for the log of a sum that is ten times smaller is up to ten times steeper.
    config = replace(CONFIG, log_offset=log_offset)
    names, windows = probe_windows(config.network_window(480))
    with torch.inference_mode():
        graph = LogMel(config)(torch.from_numpy(windows)).numpy()
    for name, got, wanted in zip(names, FftLogMel(config)(windows), graph, strict=True):
        np.testing.assert_allclose(got, wanted, atol=atol, err_msg=name)
    silence = np.zeros((1, 16_000), np.float32)
    np.testing.assert_allclose(FftLogMel(config)(silence), np.log(log_offset), rtol=1e-6)


def test_the_front_end_by_fft_gives_each_window_the_same_whoever_calls_it_and_in_what_company():
    fft = FftLogMel(CONFIG)
    windows = np.random.default_rng(0).uniform(-1, 1, (8, 77_040)).astype(np.float32)
    alone = [fft(window[None])[0] for window in windows]
    np.testing.assert_array_equal(fft(windows), alone)
    with ThreadPoolExecutor(4) as pool:
        for got, wanted in zip(pool.map(lambda i: fft(windows[i : i + 1])[0], [*range(8)] * 8), alone * 8, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_silence_is_the_log_offset_everywhere():
    np.testing.assert_allclose(log_mel(np.zeros(16_000)), np.log(0.01), rtol=1e-6)


@pytest.mark.parametrize("hertz", [250.0, 1_000.0, 3_000.0, 6_500.0])
def test_a_tone_peaks_in_the_band_nearest_to_it(hertz):
    edges = np.linspace(*(1127 * np.log1p(np.array([125.0, 7_500.0]) / 700)), 66)
    nearest = int(np.abs(edges[1:-1] - 1127 * np.log1p(hertz / 700)).argmin())
    assert int(log_mel(tone(hertz)).mean(axis=0).argmax()) == nearest


@pytest.mark.parametrize("hertz", [20.0, 7_900.0])
def test_a_tone_outside_the_bands_is_nearly_silent(hertz):
    assert log_mel(0.1 * tone(hertz)).max() < log_mel(0.1 * tone(1_000.0)).max() - 3


@pytest.mark.parametrize(
    ("samples", "frames"), [(399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98), (15_600, 96), (77_040, 480)]
)
def test_an_incomplete_last_frame_is_dropped(samples, frames):
    assert CONFIG.frames(samples) == frames
    if frames:
        assert log_mel(np.zeros(samples)).shape == (frames, 64)


def test_the_windows_of_the_networks_have_the_documented_lengths():
    assert (CONFIG.network_window(480).samples, CONFIG.network_window(480).hop_samples) == (77_040, 76_800)
    assert (CONFIG.network_window(96).samples, CONFIG.network_window(96).hop_samples) == (15_600, 15_360)


def test_mel_filters_are_linear_in_mel_so_torchaudio_is_close_and_not_equal():
    ours = mel_weights(CONFIG)
    theirs = torchaudio.functional.melscale_fbanks(257, 125.0, 7_500.0, 64, 16_000, mel_scale="htk").numpy()
    assert not ours[0].any()
    assert 1e-3 < np.abs(ours - theirs).max() < 0.05


def test_doubling_the_waveform_doubles_the_mel_energies():
    wave = 0.2 * tone(700.0)
    np.testing.assert_allclose(
        np.exp(log_mel(2 * wave)) - 0.01, 2 * (np.exp(log_mel(wave)) - 0.01), rtol=1e-3, atol=1e-4
    )
