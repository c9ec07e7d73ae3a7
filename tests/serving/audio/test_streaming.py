"""A recording that is read block by block gives the windows of the whole one, to the last bit, in constant memory."""

import io
import json
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.looped_recordings import write_mp3
from serving.audio import Recording, RecordingStream, Window, cut_windows, level_dbfs, read_audio, to_mono
from serving.audio.mono_stream import MonoStream
from serving.audio.read_ahead import read_ahead
from serving.audio.resampling import StreamResampler, resample
from serving.audio.sample_blocks import SampleBlock
from serving.audio.window import stream_windows
from serving.errors import AudioError, DurationError, UsageError
from tests import field_recordings as field
from tests.field_recordings import CONTAINER_KINDS, LIBSNDFILE_KINDS, mp3

KINDS = LIBSNDFILE_KINDS | CONTAINER_KINDS
WINDOW = Window(16_000, 16_000, 15_840)


def noise(n_samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(n_samples).uniform(-0.5, 0.5, (n_samples, channels)).astype(np.float32)


def in_blocks(wave: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    start = number = 0
    while start < len(wave):
        yield wave[start : start + sizes[number % len(sizes)]]
        start, number = start + sizes[number % len(sizes)], number + 1


def streamed(path: Path, window: Window = WINDOW, most: int = 8) -> tuple[RecordingStream, dict[str, np.ndarray]]:
    """The stream of a file after its end, and the arrays of all its windows."""
    stream = RecordingStream(path, window, most, lambda windows: windows)
    blocks = list(stream)
    assert all(1 <= len(block.inputs) <= most for block in blocks)
    names = ("starts_s", "ends_s", "padded", "levels_dbfs", "inputs")
    return stream, {name: np.concatenate([getattr(block, name) for block in blocks]) for name in names}


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 17_000, 22_050, 24_000, 44_100, 44_101, 48_000, 96_000])
@pytest.mark.parametrize("n_samples", [1, 441, 50_000, 300_007])
def test_resampling_in_blocks_changes_no_bit(rate_hz, n_samples):
    wave = noise(n_samples)[:, 0]
    wanted = wave if rate_hz == 16_000 else resample(wave, rate_hz, 16_000)
    for sizes in ([n_samples], [70_001, 3], [16_384], [12_345, 1, 999]):
        resampler, got, left = StreamResampler(rate_hz, 16_000), [], n_samples
        for block in in_blocks(wave, sizes):
            left -= len(block)
            got.append(resampler.push(block, is_last=not left))
        np.testing.assert_array_equal(np.concatenate(got), wanted)


@pytest.mark.parametrize("hop", [None, 0.99, 0.5, 0.123, 1.0])
@pytest.mark.parametrize("n_samples", [1, 8_000, 16_000, 16_001, 23_839, 23_840, 31_840, 31_841, 200_000])
def test_windows_cut_in_blocks_are_those_cut_at_once(hop, n_samples):
    window, wave = WINDOW.with_hop(hop), noise(n_samples)[:, 0]
    wanted = cut_windows(wave, window)
    for sizes, most in (([n_samples], 8), ([1_000], 3), ([50_001, 7], 1), ([16_000], 2)):
        blocks = list(stream_windows(in_blocks(wave, sizes), window, most))
        np.testing.assert_array_equal(np.concatenate([block.windows for block in blocks]), wanted)
        starts = np.concatenate([block.starts_s for block in blocks])
        np.testing.assert_allclose(starts, np.arange(len(wanted)) * window.hop_samples / 16_000)
        ends = np.concatenate([block.ends_s for block in blocks])
        np.testing.assert_allclose(ends, np.minimum(starts + 1, n_samples / 16_000))
        padded = np.concatenate([block.padded for block in blocks])
        np.testing.assert_array_equal(padded, starts * 16_000 + 16_000 > n_samples + 1e-6)


@pytest.fixture
def small_blocks(monkeypatch):
    """So that a recording of seconds takes many blocks, and no file is read at once."""
    monkeypatch.setattr("serving.audio.sample_blocks.BLOCK_VALUES", 2**15)
    monkeypatch.setattr("serving.audio.decoding.MOST_COPIED", 0)
    # Longer than the largest page of an OGG here, and than the MP3 frames that are looked at together.
    monkeypatch.setattr("serving.audio.streams.OVERLAP", 10_000)
    monkeypatch.setattr("serving.audio.streams.PAGE_BYTES", 14_000)


@pytest.mark.parametrize("name", KINDS)
def test_every_format_gives_the_same_bits_in_blocks(name, tmp_path, request):
    if name in CONTAINER_KINDS:
        pytest.importorskip("av", reason="PyAV is not installed: the extra `formats`")
    path = tmp_path / f"sound{KINDS[name].suffix}"
    path.write_bytes(KINDS[name].make())
    whole = Recording.from_file(path, 16_000)
    request.getfixturevalue("small_blocks")
    stream, got = streamed(path)
    np.testing.assert_array_equal(got["inputs"], whole.windows(WINDOW))
    assert stream.duration_s == pytest.approx(whole.duration_s, abs=1e-9)
    assert (stream.rate_hz, stream.channels) == (whole.rate_hz, whole.channels)
    assert stream.warnings == whole.warnings
    assert bool(stream.warnings) == bool(KINDS[name].told)
    assert got["ends_s"].max() <= stream.duration_s


def test_a_recording_of_many_blocks_is_what_decoding_and_resampling_at_once_give(tmp_path):
    """The check does not use the block reader's resampler: samples read by soundfile, mixed and resampled whole."""
    for rate_hz, channels in ((44_100, 2), (48_000, 1), (22_050, 3)):
        path = tmp_path / f"{rate_hz}.wav"
        soundfile.write(path, noise(60 * rate_hz, channels), rate_hz, "PCM_16")
        samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
        _, got = streamed(path)
        np.testing.assert_array_equal(got["inputs"], cut_windows(to_mono(samples, rate_hz, 16_000), WINDOW))


def test_where_the_rate_changes_each_part_is_resampled_on_its_own(tmp_path, small_blocks):
    path = tmp_path / "joined.mp3"
    parts = [mp3(field.field_sound()), mp3(field.field_sound(22_050), 22_050)]
    path.write_bytes(b"".join(parts))
    waves = []
    for number, part in enumerate(parts):
        (tmp_path / f"{number}.mp3").write_bytes(part)
        waves.append(to_mono(*read_audio(tmp_path / f"{number}.mp3"), 16_000))
    stream, got = streamed(path)
    np.testing.assert_array_equal(got["inputs"], cut_windows(np.concatenate(waves), WINDOW))
    assert stream.rate_hz == 44_100
    assert stream.duration_s == pytest.approx(12.0, abs=1e-3)


def test_a_hop_makes_windows_overlap_and_one_beyond_the_range_is_refused():
    assert WINDOW.with_hop(None) is WINDOW
    assert WINDOW.with_hop(0.99) is WINDOW
    half = WINDOW.with_hop(0.5)
    # The last full window ends with the clip: nothing is left to pad. From half a hop more on, something is.
    assert [half.count(n) for n in (32_000, 35_999, 36_000, 40_000)] == [3, 3, 4, 4]
    for hop in (0.0, -1.0, 1.001, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"hop_seconds: got .*; wanted more than 0 and at most a window, 1 s"):
            WINDOW.with_hop(hop)


def test_a_padded_window_has_the_level_of_its_sound_and_is_marked(tmp_path):
    wave = np.concatenate([0.5 * np.ones(15_000), 0.01 * np.ones(11_000)]).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, "FLOAT")
    _, got = streamed(tmp_path / "a.wav")
    assert got["padded"].tolist() == [False, True]
    np.testing.assert_allclose(got["levels_dbfs"], [level_dbfs(wave), -40], atol=1e-3)
    np.testing.assert_allclose(got["ends_s"], [1.0, 1.625])


def test_silence_at_the_end_is_known_by_its_level(tmp_path):
    wave = np.concatenate([noise(16_000)[:, 0], np.zeros(80_000, np.float32)])
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    _, got = streamed(tmp_path / "a.wav", WINDOW.with_hop(0.25))
    silent = got["starts_s"] >= 1
    assert (got["levels_dbfs"][silent] == -120).all()
    assert (got["levels_dbfs"][~silent] > -7).all()


# What breaks off, lies or is damaged.


def test_damage_after_some_blocks_ends_the_recording_there_with_its_time(tmp_path, small_blocks):
    wave = noise(10 * 16_000)
    wave[7 * 16_000] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, 16_000, "FLOAT")
    stream, got = streamed(tmp_path / "a.wav")
    block_s = 2**15 / 16_000
    assert stream.duration_s == 3 * block_s
    assert len(got["inputs"]) == WINDOW.count(3 * 2**15)
    (warning,) = stream.warnings
    assert warning.startswith(f"{tmp_path / 'a.wav'}: damaged: could be read only as far as 6.1 s (1 of")
    wave[0] = np.inf
    soundfile.write(tmp_path / "b.wav", wave, 16_000, "FLOAT")
    with pytest.raises(AudioError, match=r"b\.wav: 1 of \d+ samples are NaN or infinite"):
        streamed(tmp_path / "b.wav")


def test_a_flac_that_breaks_off_late_gives_the_windows_before_and_the_time(tmp_path, small_blocks):
    whole = tmp_path / "whole.flac"
    soundfile.write(whole, noise(30 * 16_000), 16_000)
    (tmp_path / "cut.flac").write_bytes(whole.read_bytes()[: whole.stat().st_size * 9 // 10])
    _, wanted = streamed(whole)
    stream, got = streamed(tmp_path / "cut.flac")
    assert 25 < stream.duration_s < 27.1
    full = int(stream.duration_s) - 1
    np.testing.assert_array_equal(got["inputs"][:full], wanted["inputs"][:full])
    assert f"only the first {stream.duration_s:.1f} of 30.0 s could be read" in stream.warnings[0]


def test_every_warning_says_how_much_sound_was_read(tmp_path):
    for name, kind in LIBSNDFILE_KINDS.items():
        if kind.told:
            path = tmp_path / f"{name}{kind.suffix}"
            path.write_bytes(kind.make())
            stream, _ = streamed(path)
            assert all(
                line.endswith(f"the sound that was read lasts {stream.duration_s:.1f} s") for line in stream.warnings
            )


def test_a_limit_is_an_error_also_where_it_shows_after_some_windows(tmp_path, small_blocks):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(10 * 16_000), 16_000)
    blocks = iter(RecordingStream(path, WINDOW, 2, lambda windows: windows, max_seconds=6))
    assert len(next(blocks).inputs) == 2
    with pytest.raises(DurationError, match=r"a\.flac: lasts more than 6 s"):
        list(blocks)


SIZES = {"never closed": 0, "streamed": 2**32 - 1, "sox": 0x7FFF_F000, "modulo 4 GB": 24 * 3600 * 192_000 % 2**32}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
def test_a_wav_of_more_than_4_gb_is_known_whole_whatever_its_header_claims(tmp_path, size):
    """A file with a hole: it takes no room on the disk."""
    from serving.audio.decoding import _layout_of, _opened
    from serving.audio.streams import ByteSource

    path = tmp_path / "day.wav"
    with path.open("wb") as file, io.BytesIO() as head:
        soundfile.write(head, np.zeros((1, 2)), 48_000, format="WAV")
        file.write(field.with_sizes(head.getvalue(), 36, size)[:44])
        file.truncate(44 + 24 * 3600 * 192_000)
    with path.open("rb") as file:
        source = ByteSource(fd=file.fileno())
        layout = _layout_of(source)
        with _opened(source, layout.streams[0], layout) as opened:
            assert (opened.frames, opened.samplerate, opened.channels) == (24 * 3600 * 48_000, 48_000, 2)


def test_a_chunk_after_the_sound_of_a_large_wav_is_no_sound(tmp_path):
    """Its size is beyond those that programs write for unknown."""
    from serving.audio.streams import ByteSource
    from serving.audio.wav import read_layout

    n_bytes = 3_000_000_000
    path = tmp_path / "large.wav"
    with path.open("wb") as file, io.BytesIO() as head:
        soundfile.write(head, np.zeros((1, 2)), 48_000, format="WAV")
        file.write(field.with_sizes(head.getvalue(), n_bytes + 50, n_bytes)[:44])
        file.seek(44 + n_bytes)
        file.write(field.chunk(b"LIST", b"INFOabcd"))
    with path.open("rb") as file:
        assert read_layout(ByteSource(fd=file.fileno())).streams[0].pieces is None


MEASURE = """
import json, sys
from pathlib import Path
from serving.audio import RecordingStream, Window

def peak_mb():
    return next(int(l.split()[1]) / 1000 for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l)

def embed(path):
    stream = RecordingStream(path, Window(16_000, 77_040, 76_800), 8, lambda windows: windows[:, ::2].copy())
    return sum(len(block.inputs) for block in stream)

short = embed(sys.argv[1])
before = peak_mb()
print(json.dumps({"short": short, "long": embed(sys.argv[2]), "more_mb": peak_mb() - before}))
"""


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
def test_twenty_minutes_take_no_more_memory_than_some_blocks(suffix, tmp_path):
    """Decoded whole they are 460 MB in stereo, and 77 MB when mixed and resampled."""
    minute = (noise(60 * 48_000, 2) * 2**15).astype(np.int16)
    soundfile.write(tmp_path / f"short{suffix}", minute[: 10 * 48_000], 48_000)
    if suffix == ".mp3":
        write_mp3(tmp_path / "long.mp3", minute, 48_000, 20)  # encoding all of it would take most of the test's time
    else:
        with soundfile.SoundFile(tmp_path / "long.wav", "w", 48_000, 2) as file:
            for _ in range(20):
                file.write(minute)
    line = [sys.executable, "-c", MEASURE, *(str(tmp_path / f"{name}{suffix}") for name in ("short", "long"))]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    got = json.loads(done.stdout)
    assert (got["short"], got["long"]) == (2, 250)
    assert got["more_mb"] < 60  # blocks decoded and mixed, and windows that wait


# Stretches of a recording.


def mono_stream(wave: np.ndarray, sizes: list[int], rate_hz: int) -> MonoStream:
    """A recording whose blocks have these sizes."""
    blocks = (SampleBlock(block[:, None], rate_hz, True) for block in in_blocks(wave, sizes))
    return MonoStream(blocks, "a", 16_000)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
@pytest.mark.parametrize("sizes", [[100], [7_001, 13], [10**6]])
def test_stretches_are_cut_from_the_whole_recording_sample_by_sample(rate_hz, sizes):
    wave = noise(20_000)[:, 0]
    places = [(0.1, 0.3), (0.0, None), (0.2, 0.25), (0.2, 0.9)]
    places += [(0.15, 0.15), (0.3, 0.2), (5.0, 6.0), (5.0, None), (0.1, 0.3)]
    rng = np.random.default_rng(5)
    places += [(start, start + seconds) for start, seconds in rng.uniform(0, (1.3, 0.2), (40, 2)).tolist()]
    whole = np.concatenate(list(mono_stream(wave, sizes, rate_hz)))
    for chosen in (places, places[:1], places[4:7], []):
        got = mono_stream(wave, sizes, rate_hz).stretches(chosen)
        assert len(got) == len(chosen)
        for part, (start_s, end_s) in zip(got, chosen, strict=True):
            end = None if end_s is None else round(end_s * 16_000)
            assert part.dtype == np.float32
            np.testing.assert_array_equal(part, whole[round(start_s * 16_000) : end])


def test_what_many_stretches_cost_does_not_grow_with_the_number_of_blocks():
    wave = noise(600_000)[:, 0]
    places = [(number / 100, number / 100 + 0.01) for number in range(1000)]
    tracemalloc.start()
    try:
        mono_stream(wave, [1000], 16_000).stretches(places)  # 600 blocks
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


# Reading ahead.


def test_reading_ahead_keeps_the_order_passes_errors_on_and_leaves_no_thread():
    before = set(threading.enumerate())
    assert list(read_ahead(iter_to(20))) == list(range(1, 20))
    with pytest.raises(AudioError, match="broken"):
        list(read_ahead(iter_to(20, broken_at=7)))
    items = iter_to(20)
    ahead = read_ahead(items)
    assert next(ahead) == 1
    ahead.close()
    assert next(items, None) is None  # closed: the file behind it is too
    assert set(threading.enumerate()) <= before


def iter_to(end: int, broken_at: int | None = None) -> Iterator[int]:
    for number in range(1, end):
        if number == broken_at:
            raise AudioError("broken")
        yield number
