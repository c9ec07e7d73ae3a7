"""From bytes to windows: every edge of the cut, what mixing and resampling keep, and what is refused in what words."""

import io
import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serving.audio import (
    HIGHEST_RATE_HZ,
    Window,
    check_wave,
    cut_windows,
    decode_audio,
    file_seconds,
    header_seconds,
    read_audio,
    to_mono,
)
from serving.errors import AudioError, DurationError, FormatError

YAMNET = Window(rate_hz=16_000, samples=77_040, hop_samples=76_800)
OPEN_FILES = Path("/proc/self/fd")
VGGISH = Window(rate_hz=16_000, samples=15_600, hop_samples=15_360)


def tone(hz: float, rate_hz: int, seconds: float = 1.0) -> np.ndarray:
    """[n_samples] float32, amplitude 0.5."""
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def encoded(wave: np.ndarray, rate_hz: int = 16_000, file_format: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate_hz, format=file_format, subtype=subtype)
    return buffer.getvalue()


def flac_that_claims(n_samples: int, flac: bytes) -> bytes:
    """The same FLAC with another number of samples in its header; 0 is what a streaming encoder leaves there."""
    word = int.from_bytes(flac[18:26], "big") >> 36 << 36 | n_samples
    return flac[:18] + word.to_bytes(8, "big") + flac[26:]


@pytest.mark.parametrize("window", [YAMNET, VGGISH], ids=["yamnet", "vggish"])
@pytest.mark.parametrize(
    ("length", "n_windows"),
    [
        ("one sample", 1),
        ("window - 1", 1),
        ("window", 1),
        ("window + 1", 1),
        ("hop + half - 1", 1),
        ("hop + half", 2),
        ("hop + half + 1", 2),
        ("hop + window", 2),
        ("7 hops + half - 1", 7),
        ("7 hops + half", 8),
        ("7 hops + window + 1", 8),
    ],
)
def test_a_rest_of_half_a_window_counts_and_a_shorter_one_does_not(window, length, n_windows):
    size, hop = window.samples, window.hop_samples
    n_samples = {
        "one sample": 1,
        "window - 1": size - 1,
        "window": size,
        "window + 1": size + 1,
        "hop + half - 1": hop + size // 2 - 1,
        "hop + half": hop + size // 2,
        "hop + half + 1": hop + size // 2 + 1,
        "hop + window": hop + size,
        "7 hops + half - 1": 7 * hop + size // 2 - 1,
        "7 hops + half": 7 * hop + size // 2,
        "7 hops + window + 1": 7 * hop + size + 1,
    }[length]
    wave = np.arange(1, n_samples + 1, dtype=np.float32)
    windows = cut_windows(wave, window)
    assert windows.shape == (n_windows, size)
    assert windows.dtype == np.float32
    assert window.count(n_samples) == n_windows
    for i, cut in enumerate(windows):
        kept = wave[i * hop : i * hop + size]
        np.testing.assert_array_equal(cut[: len(kept)], kept)
        assert not cut[len(kept) :].any()


def test_channels_are_mixed_to_their_mean():
    left, right = tone(300, 16_000), tone(1_700, 16_000)
    np.testing.assert_allclose(to_mono(np.stack([left, right], 1), 16_000, 16_000), (left + right) / 2, atol=1e-7)
    np.testing.assert_array_equal(to_mono(left[:, None], 16_000, 16_000), left)
    assert not to_mono(np.stack([left, -left], 1), 16_000, 16_000).any()


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
def test_resampling_keeps_a_tone_where_it_was_and_as_loud(rate_hz):
    mono = to_mono(tone(1_000, rate_hz, 2.0), rate_hz, 16_000)
    assert mono.dtype == np.float32
    assert abs(len(mono) - 32_000) <= 1
    middle = mono[8_000:24_000]  # one second: a bin of the spectrum is 1 Hz
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() == 1_000
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)


def test_resampling_removes_what_the_lower_rate_cannot_hold():
    mono = to_mono(tone(11_000, 48_000, 2.0), 48_000, 16_000)
    assert np.abs(mono[8_000:24_000]).max() < 1e-4


def test_any_float_type_becomes_float32_and_the_same_rate_changes_no_sample():
    wave = tone(440, 16_000)
    for dtype in (np.float16, np.float64):
        mono = to_mono(wave.astype(dtype), 16_000, 16_000)
        assert mono.dtype == np.float32
        np.testing.assert_array_equal(mono, wave.astype(dtype).astype(np.float32))


def test_one_sample_at_a_high_rate_is_still_one_sample():
    assert len(to_mono(np.ones(1, np.float32), 192_000, 16_000)) == 1
    assert len(to_mono(np.ones((1, 2), np.float32), 8_000, 16_000)) >= 1


@pytest.mark.parametrize(
    ("wave", "rate_hz", "words"),
    [
        (np.zeros((), np.float32), 16_000, r"float32 \[\]; wanted floats"),
        (np.zeros((5, 2, 1), np.float32), 16_000, r"\[5, 2, 1\]; wanted floats"),
        (np.zeros(5, np.int16), 16_000, r"int16 \[5\]; wanted floats"),
        (np.zeros(5, np.complex64), 16_000, "complex64"),
        (np.zeros((2, 16_000), np.float32), 16_000, "transpose"),
        (np.zeros(0, np.float32), 16_000, "no samples"),
        (np.zeros((0, 2), np.float32), 16_000, "no samples"),
        (np.zeros(5, np.float32), 0, "rate of 0 Hz"),
        (np.zeros(5, np.float32), -16_000, "rate of -16000 Hz"),
        (np.zeros(5, np.float32), float("nan"), "rate of nan Hz"),
        (np.zeros(5, np.float32), float("inf"), "rate of inf Hz"),
        (np.zeros(5, np.float32), 1e-3, "wanted 100 to"),  # soxr would ask for 100 GB
        (np.zeros(5, np.float32), HIGHEST_RATE_HZ + 1, "wanted 100 to"),
        (np.array([0, np.nan, np.inf], np.float32), 16_000, "2 of 3 samples are NaN or infinite"),
        (np.full(5, -32_768, np.float32), 16_000, r"reach 32768; wanted \[-1, 1\]"),
        (np.full(5, 1e30, np.float32), 16_000, "divide integers by their full scale"),
    ],
)
def test_a_waveform_that_cannot_be_used_is_refused_with_what_was_wanted(wave, rate_hz, words):
    with pytest.raises(AudioError, match=words):
        to_mono(wave, rate_hz, 16_000)


def test_floats_somewhat_over_full_scale_are_sound():
    check_wave(np.array([-4.0, 4.0], np.float32))


@pytest.mark.parametrize("file_format", ["WAV", "FLAC", "OGG", "MP3"])
def test_a_file_decodes_to_its_samples_channels_and_rate(file_format, tmp_path):
    stereo = np.stack([tone(440, 44_100), tone(880, 44_100)], 1)
    path = tmp_path / "sound"
    path.write_bytes(encoded(stereo, 44_100, file_format))
    wave, rate_hz = read_audio(path)
    assert (wave.shape, wave.dtype, rate_hz) == ((44_100, 2), np.float32, 44_100)
    assert np.sqrt(np.mean((wave - stereo) ** 2)) < {"WAV": 1e-4, "FLAC": 1e-4}.get(file_format, 0.05)


def test_a_long_file_decodes_in_blocks_to_what_soundfile_reads_at_once():
    # More than the 2**20 values of one block, and noise, so that a shift by one sample shows.
    stereo = np.random.default_rng(0).uniform(-0.5, 0.5, (700_001, 2)).astype(np.float32)
    for file_format in ("WAV", "FLAC"):
        data = encoded(stereo, 44_100, file_format)
        expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        np.testing.assert_array_equal(decode_audio(data)[0], expected)


@pytest.mark.parametrize("claim", [0, 50_005, 2**31, 2**36 - 1])
def test_a_flac_that_does_not_know_its_length_gives_the_samples_it_has(claim):
    data = encoded(tone(440, 16_000, 50_001 / 16_000), file_format="FLAC")
    wave, _ = decode_audio(flac_that_claims(claim, data))
    np.testing.assert_array_equal(wave, decode_audio(data)[0])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: b"", FormatError, "is an empty file, of 0 bytes; wanted WAV"),
        (lambda: b"Dear reader,\n" * 100, FormatError, "wanted WAV, FLAC, OGG, Opus, MP3, AIFF or CAF"),
        (lambda: b"\xff\xfb\x90\x64" + bytes(5_000), FormatError, "not a readable audio file"),
        (lambda: encoded(tone(440, 16_000), file_format="FLAC")[:500], FormatError, "lost sync"),
        (lambda: encoded(tone(440, 16_000), file_format="OGG")[:2_000], FormatError, "malformed"),
        (lambda: encoded(tone(440, 16_000))[:20], FormatError, "not a readable audio file"),
        (lambda: encoded(np.zeros(0, np.float32)), AudioError, "no samples"),
        (lambda: encoded(np.full(9, np.nan, np.float32), subtype="FLOAT"), AudioError, "9 of 9 samples are NaN"),
        (lambda: encoded(np.full(9, 1e300), subtype="DOUBLE"), AudioError, "9 of 9 samples are NaN or infinite"),
        (lambda: encoded(np.full(9, 1e4, np.float32), subtype="FLOAT"), AudioError, "reach 10000"),
    ],
    ids=["empty", "text", "mp3 header", "cut flac", "cut ogg", "cut header", "no samples", "nan", "1e300", "loud"],
)
def test_a_file_that_cannot_be_used_is_refused_by_name_and_cause(make, error, words, tmp_path):
    path = tmp_path / "sound.wav"
    path.write_bytes(make())
    with pytest.raises(error, match=words) as caught:
        read_audio(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_path_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(AudioError, match=r"absent\.wav: cannot be read \(No such file"):
        read_audio(tmp_path / "absent.wav")
    with pytest.raises(AudioError, match=r"cannot be read \(Is a directory"):
        read_audio(tmp_path)


def test_a_truncated_wav_gives_the_samples_that_are_left():
    wave, _ = decode_audio(encoded(tone(440, 16_000))[:-2_000])
    assert len(wave) == 15_000


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has files in the kernel's memory")
@pytest.mark.parametrize("file_format", ["WAV", "FLAC", "OGG", "MP3"])
def test_files_by_path_in_the_kernels_memory_and_in_pythons_decode_alike_cut_off_anywhere(
    file_format, monkeypatch, tmp_path
):
    whole = encoded(tone(440, 44_100, 0.2), 44_100, file_format)
    cuts = [whole[:length] for length in (*range(0, 120, 7), *range(120, len(whole), len(whole) // 40))]
    swapped = [whole[:at] + b"\xff\x00\x80" + whole[at + 3 :] for at in range(4, len(whole), len(whole) // 40)]

    path = tmp_path / "sound.vox"  # a name of samples without a header, which libsndfile must not read it as

    def by_path(data: bytes) -> tuple[np.ndarray, int]:
        path.write_bytes(data)
        return read_audio(path)

    def outcomes(read: Callable[[bytes], tuple[np.ndarray, int]]) -> list[object]:
        found: list[object] = []
        for data in (whole, *cuts, *swapped):
            try:
                wave, rate_hz = read(data)
                found.append((wave.tobytes(), wave.shape, rate_hz))
            except AudioError as error:
                found.append(str(error))
        return found

    here = outcomes(lambda data: decode_audio(data, str(path)))
    assert outcomes(by_path) == here
    monkeypatch.setattr("serving.audio.libsndfile.MOST_COPIED", -1)
    assert outcomes(lambda data: decode_audio(data, str(path))) == here


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_could_block_for_ever_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.wav"))
        for path in (tmp_path / "pipe.wav", tmp_path / "socket.wav", Path("/dev/zero")):
            with pytest.raises(AudioError, match=f"{path}: is a pipe, a socket or a device; give files"):
                read_audio(path)
            assert file_seconds(path) is None
    with pytest.raises(AudioError, match="Is a directory"):
        read_audio(tmp_path)


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="only Linux tells what is open")
def test_no_file_stays_open(tmp_path):
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    good.write_bytes(encoded(tone(440, 16_000)))
    bad.write_bytes(b"no sound")
    before = len(list(OPEN_FILES.iterdir()))
    for _ in range(5):
        read_audio(good)
        with pytest.raises(FormatError):
            read_audio(bad)
    assert len(list(OPEN_FILES.iterdir())) == before


@pytest.mark.parametrize("before", [b"", b"ID3\3\0\0\0\0\0\x0a" + bytes(10)], ids=["plain", "behind a tag"])
@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "W64"])
def test_the_header_of_a_large_file_is_read_without_the_file(tmp_path, container, before):
    with soundfile.SoundFile(tmp_path / "one.bin", "w", 8_000, 1, "PCM_16", format=container) as file:
        file.write(np.zeros(4_000_000, np.int16))
    path = tmp_path / "large.bin"
    path.write_bytes(before + (tmp_path / "one.bin").read_bytes())
    tracemalloc.start()
    try:
        stated = file_seconds(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000  # of 8 MB
    finally:
        tracemalloc.stop()
    assert stated == header_seconds(path.read_bytes()) == 500.0


def test_an_ogg_tells_its_length_as_libsndfile_finds_it():
    for seconds in (0.001, 0.2, 3.0):
        ogg = encoded(tone(440, 44_100, seconds), 44_100, "OGG", "VORBIS")
        with soundfile.SoundFile(io.BytesIO(ogg)) as file:
            assert header_seconds(ogg) == file.frames / file.samplerate
    assert header_seconds(ogg[:40]) is None
    assert header_seconds(ogg[:40] + bytes(4) + ogg[44:]) is None  # a rate of 0 Hz
    opus = encoded(tone(440, 48_000, 0.5), 48_000, "OGG", "OPUS")
    assert header_seconds(opus) == pytest.approx(0.5, abs=0.05)


def test_a_limit_in_seconds_lets_exactly_that_much_through():
    for file_format in ("WAV", "FLAC", "OGG", "MP3"):
        data = encoded(tone(440, 16_000, 2.0), file_format=file_format)
        assert len(decode_audio(data, max_seconds=2.0)[0]) == 32_000
        with pytest.raises(DurationError, match=r"lasts more than 1\.9 s.*send a shorter recording"):
            decode_audio(data, max_seconds=1.9)


def test_a_limit_in_seconds_holds_where_the_header_lies_or_the_format_is_wasteful():
    silence = encoded(np.zeros(16_000 * 60, np.float32), file_format="FLAC")
    with pytest.raises(DurationError):
        decode_audio(flac_that_claims(0, silence), max_seconds=50)
    wide = encoded(np.zeros((96_000 * 3, 8), np.float32), 96_000, "FLAC")  # as much memory as 6 s at 48 kHz
    with pytest.raises(DurationError, match=r"more than 1\.5 s, the most here for 96000 Hz 8-channel sound"):
        decode_audio(wide, max_seconds=3)
