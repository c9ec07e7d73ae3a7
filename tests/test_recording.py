"""A recording on its way to a network: the same from a file, its bytes and its samples, with the time of each step."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from serving.audio import Recording, Window, cut_windows, level_dbfs, read_audio, to_mono
from serving.errors import AudioError, DurationError
from tests.sounds import encoded

WINDOW = Window(16_000, 16_000, 15_840)


def tone(hertz: float, rate_hz: int, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


@pytest.fixture
def stereo_path(tmp_path):
    """Three seconds at 44.1 kHz, the second channel at half the level."""
    wave = tone(440, 44_100, 3.0)
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([wave, wave / 2], axis=1), 44_100)
    return path


def test_file_bytes_and_samples_give_the_same_waveform_and_facts(stereo_path):
    samples, rate_hz = read_audio(stereo_path)
    expected = to_mono(samples, rate_hz, 16_000)
    for recording in (
        Recording.from_file(stereo_path, 16_000),
        Recording.from_bytes(stereo_path.read_bytes(), "stereo.wav", 16_000),
        Recording.from_samples(samples, rate_hz, 16_000),
    ):
        np.testing.assert_array_equal(recording.wave, expected)
        assert (recording.duration_s, recording.rate_hz, recording.channels) == (3.0, 44_100, 2)
        np.testing.assert_array_equal(recording.windows(WINDOW), cut_windows(expected, WINDOW))


def test_without_a_rate_the_waveform_keeps_the_rate_of_the_recording(stereo_path):
    recording = Recording.from_file(stereo_path, None)
    assert recording.wave_rate_hz == 44_100
    np.testing.assert_array_equal(recording.wave, read_audio(stereo_path)[0].mean(axis=1))


def test_a_prepared_recording_has_inputs_levels_and_the_time_of_each_step(stereo_path):
    prepared = Recording.from_file(stereo_path, 16_000).prepare(WINDOW, lambda windows: windows[:, ::2] * 2)
    windows = Recording.from_file(stereo_path, 16_000).windows(WINDOW)
    np.testing.assert_array_equal(prepared.inputs, windows[:, ::2] * 2)
    assert prepared.levels_dbfs == [level_dbfs(window) for window in windows]
    assert list(prepared.milliseconds) == ["decode", "resample", "front_end"]
    assert all(ms > 0 for ms in prepared.milliseconds.values())
    assert prepared.warnings == ()


def test_parts_that_cannot_be_read_are_warnings_that_name_the_file(tmp_path):
    path = tmp_path / "cut.flac"
    path.write_bytes(encoded(tone(440, 16_000, 3.0), file_format="FLAC")[:-20_000])
    recording = Recording.from_file(path, 16_000)
    assert 0 < recording.duration_s < 3
    (warning,) = recording.warnings
    assert warning.startswith(f"{path}: cut off")
    assert recording.prepare(WINDOW, lambda windows: windows).warnings == recording.warnings


def test_every_error_names_the_file(tmp_path):
    path = tmp_path / "slow.wav"
    soundfile.write(path, np.zeros(200), 50)  # decoded without a fault, but 50 Hz cannot be resampled
    with pytest.raises(AudioError, match=rf"{path}: waveform: got a rate of 50 Hz"):
        Recording.from_file(path, 16_000)
    with pytest.raises(DurationError, match=r"long\.wav: lasts more than 2 s"):
        Recording.from_bytes(encoded(tone(440, 16_000, 3.0)), "long.wav", 16_000, max_seconds=2)


def test_a_waveform_at_another_rate_than_the_window_is_refused(stereo_path):
    with pytest.raises(AssertionError, match="wanted 16000 Hz"):
        Recording.from_file(stereo_path, None).windows(WINDOW)


def test_the_decoded_samples_are_freed_once_the_waveform_is_made(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.full((20 * 48_000, 2), 0.1), 48_000)
    Recording.from_file(path, 16_000)  # builds the filters
    tracemalloc.start()
    recording = Recording.from_file(path, 16_000)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert recording.wave.nbytes == 4 * 20 * 16_000
    assert held < 1.5 * recording.wave.nbytes  # the decoded samples have six times as many bytes
