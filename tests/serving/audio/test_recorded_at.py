"""When a recording began, from every place that says it; and files that lie about their chunks."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serving.audio.recorded_at import recorded_at


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    """A RIFF chunk. size: that its header states, if it is not the content's."""
    return name + struct.pack("<I", len(content) if size is None else size) + content + bytes(len(content) % 2)


def comment(text: str) -> bytes:
    return chunk(b"LIST", b"INFO" + chunk(b"IART", b"AudioMoth 0FE081F80FE081F0\0") + chunk(b"ICMT", text.encode()))


def guano(text: str) -> bytes:
    return chunk(b"guan", text.encode())


def bext(date: bytes, time: bytes) -> bytes:
    return chunk(b"bext", bytes(320) + date.ljust(10, b"\0") + time.ljust(8, b"\0") + bytes(264))


def wav(path: Path, *after: bytes, before: bytes = b"", riff: bytes = b"RIFF", data_size: int | None = None) -> Path:
    """A WAV file with these chunks before and after its samples."""
    form = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16))
    body = b"WAVE" + before + form + chunk(b"data", bytes(3200), data_size) + b"".join(after)
    path.write_bytes(riff + struct.pack("<I", len(body)) + body)
    return path


def said(path: Path) -> tuple[str, str] | None:
    found = recorded_at(path)
    return (found.after(0), found.source) if found else None


@pytest.mark.parametrize(
    ("text", "time"),
    [
        # Firmware 1.0.0, 1.0.1, 1.2.0 (whole hours), 1.2.2 (minutes, once padded with a space), 1.5 and later.
        ("19:17:30 18/03/2019 by AudioMoth 0FE081F80FE081F0 at gain setting 2 while", "2019-03-18T19:17:30.000Z"),
        ("19:17:30 18/03/2019 (UTC) by AudioMoth 0FE081F80FE081F0 at gain", "2019-03-18T19:17:30.000Z"),
        ("19:17:30 18/03/2019 (UTC-5) by AudioMoth 0FE081F80FE081F0 at gain", "2019-03-19T00:17:30.000Z"),
        ("19:17:30 18/03/2019 (UTC+10) by AudioMoth 0FE081F80FE081F0 at", "2019-03-18T09:17:30.000Z"),
        ("19:17:30 18/03/2019 (UTC+5:30) by AudioMoth 0FE081F80FE081F0 at", "2019-03-18T13:47:30.000Z"),
        ("19:17:30 18/03/2019 (UTC-3:30) by AudioMoth 0FE081F80FE081F0 at", "2019-03-18T22:47:30.000Z"),
        ("19:17:30 18/03/2019 (UTC+0: 5) by AudioMoth 0FE081F80FE081F0 at", "2019-03-18T19:12:30.000Z"),
        ("19:17:30.250 18/03/2019 (UTC) by AudioMoth 24F31901603710E5 at medium", "2019-03-18T19:17:30.250Z"),
        ("19:17:30 18/03/2019 (UTC) during deployment 0FE081F80FE081F0 at", "2019-03-18T19:17:30.000Z"),
    ],
)
def test_the_comment_of_each_audiomoth_firmware_gives_the_time_in_utc(tmp_path, text, time):
    assert said(wav(tmp_path / "a.wav", before=comment(f"Recorded at {text}"))) == (time, "audiomoth")


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("2017-04-10T21:02:35.123-06:00", "2017-04-11T03:02:35.123Z"),
        ("2017-04-10T21:02:35Z", "2017-04-10T21:02:35.000Z"),
        ("2017-04-10 21:02:35", "2017-04-10T21:02:35.000"),
    ],
)
def test_guano_gives_its_timestamp_and_is_in_utc_only_with_an_offset(tmp_path, stamp, time):
    text = f"GUANO|Version: 1.0\nMake: Titley\nTimestamp: {stamp}\nNote: x\n"
    assert said(wav(tmp_path / "a.wav", guano(text))) == (time, "guano")


@pytest.mark.parametrize("date", [b"2019-03-18", b"2019:03:18", b"2019 03 18"])
def test_bext_gives_the_recorders_own_time(tmp_path, date):
    assert said(wav(tmp_path / "a.wav", before=bext(date, b"19:17:30"))) == ("2019-03-18T19:17:30.000", "bext")


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("20190318_191730.WAV", "2019-03-18T19:17:30.000"),
        ("SM4_20190318_191730.wav", "2019-03-18T19:17:30.000"),
        ("S4A01234_20190318_191730_000.wav", "2019-03-18T19:17:30.000"),
        ("0042_2019-03-18_19-17-30.wav", "2019-03-18T19:17:30.000"),
        ("SITE1234_2019-03-18_19-17-30.wav", "2019-03-18T19:17:30.000"),
        ("9876_2019_03_18_19_17_30.wav", "2019-03-18T19:17:30.000"),
        ("2019-03-18 07.17.30 PM.wav", "2019-03-18T19:17:30.000"),
        ("2019-03-18 07.17.30 p.m..wav", "2019-03-18T19:17:30.000"),
        ("2019-03-18_12-17-30AM.wav", "2019-03-18T00:17:30.000"),
        ("2019-03-18_12-17-30_pm.wav", "2019-03-18T12:17:30.000"),
        ("20190318_191730_PM.wav", "2019-03-18T19:17:30.000"),  # of a clock of 24 hours
        ("20190318_071730_PM03.wav", "2019-03-18T07:17:30.000"),  # a site
        ("20190318_071730_Pmx.wav", "2019-03-18T07:17:30.000"),
        ("20190318T191730.flac", "2019-03-18T19:17:30.000"),
        ("20190318$191730.ogg", None),
        ("2019-03-18_19-17-30.mp3", "2019-03-18T19:17:30.000"),
        ("site 2019-03-18 19h17m30.wav", "2019-03-18T19:17:30.000"),
        ("20190318T191730+1000_REC_-27.5+153.0.flac", "2019-03-18T09:17:30.000Z"),
        ("20190318T191730-03:30.flac", "2019-03-18T22:47:30.000Z"),
        ("20190318T191730-0001.flac", "2019-03-18T19:17:30.000"),  # a counter: no place has this offset
        ("20190318T191730+1500.flac", "2019-03-18T19:17:30.000"),
        ("20190318T191730+9959.flac", "2019-03-18T19:17:30.000"),
        ("20190318_191730-0001.wav", "2019-03-18T19:17:30.000"),
        ("20190318_191730-0730.wav", "2019-03-18T19:17:30.000"),  # without the T of ISO 8601: a counter
        ("20190318191730-0100.wav", "2019-03-18T19:17:30.000"),
        ("20190318_191730Z.wav", "2019-03-18T19:17:30.000Z"),
        ("20190318T191730Z.flac", "2019-03-18T19:17:30.000Z"),
        ("20190318T191730Zoo.flac", "2019-03-18T19:17:30.000"),
        ("20190318191730.wav", "2019-03-18T19:17:30.000"),
        ("5C8FEECA.WAV", "2019-03-18T19:17:30.000Z"),
        ("5c8feeca.wav", None),  # recorders write capitals
        ("57123456.wav", None),  # of digits alone: a number
        ("20191318_191730.wav", None),  # month 13
        ("20190318_251730.wav", None),
        ("1-100038-A-14.flac", None),
        ("20190318.wav", None),  # a day is no time
        ("00010101_000000.wav", None),
    ],
)
def test_a_file_name_gives_the_time_if_it_holds_a_date_and_a_time(tmp_path, name, time):
    (tmp_path / name).write_bytes(b"no audio")
    assert said(tmp_path / name) == (time and (time, "name"))


def test_of_several_times_guanos_counts_then_the_audiomoths_then_bexts_then_the_names(tmp_path):
    path = tmp_path / "20010101_000000.wav"
    of_guano = guano("Timestamp: 2004-01-01T00:00:00Z")
    of_audiomoth = comment("Recorded at 00:00:00 01/01/2003 (UTC) by AudioMoth 0")
    of_bext = bext(b"2002-01-01", b"00:00:00")
    for chunks, wanted in (
        ((of_bext, of_audiomoth, of_guano), ("2004-01-01T00:00:00.000Z", "guano")),
        ((of_bext, of_audiomoth), ("2003-01-01T00:00:00.000Z", "audiomoth")),
        ((of_bext,), ("2002-01-01T00:00:00.000", "bext")),
        ((), ("2001-01-01T00:00:00.000", "name")),
        (
            (guano("Timestamp: yesterday"), comment("Recorded at noon"), bext(b"", b"")),
            ("2001-01-01T00:00:00.000", "name"),
        ),
    ):
        assert said(wav(path, *chunks)) == wanted


def test_the_chunk_behind_four_gigabytes_of_samples_is_found(tmp_path):
    n_bytes = 2**32 + 2
    head = b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", struct.pack("<QQQI", n_bytes + 72, n_bytes, n_bytes // 2, 0))
    head += chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)) + b"data\xff\xff\xff\xff"
    with (tmp_path / "long.wav").open("wb") as file:  # a sparse file
        file.write(head)
        file.seek(n_bytes, 1)
        file.write(guano("Timestamp: 2019-03-18T19:17:30Z"))
    assert said(tmp_path / "long.wav") == ("2019-03-18T19:17:30.000Z", "guano")


def test_a_time_later_in_the_recording_is_counted_from_its_beginning(tmp_path):
    (tmp_path / "20191231_235959.wav").touch()
    found = recorded_at(tmp_path / "20191231_235959.wav")
    assert found is not None
    assert found.after(1.5) == "2020-01-01T00:00:00.500"


@pytest.mark.parametrize("size", [2**31, 2**32 - 1, 2**32 - 9, 0, 1, 331])
@pytest.mark.parametrize("name", [b"guan", b"bext", b"LIST", b"junk", b"data"])
def test_chunks_of_false_sizes_are_no_crash_and_no_false_time(tmp_path, name, size):
    false = chunk(name, b"INFO" + chunk(b"ICMT", b"Recorded", 2**32 - 1), size)
    for path in (wav(tmp_path / "a.wav", false), wav(tmp_path / "b.wav", before=false, data_size=size)):
        assert said(path) is None


def test_random_bytes_behind_a_wavs_head_are_no_crash(tmp_path):
    rng = np.random.default_rng(0)
    names = [b"guan", b"bext", b"LIST", b"data", b"ds64", b"ICMT"]
    for i in range(300):
        parts = [names[rng.integers(6)] + rng.bytes(int(rng.integers(0, 400))) for _ in range(5)]
        path = tmp_path / f"{i}.wav"
        path.write_bytes([b"RIFF", b"RF64", b"RIFX"][i % 3] + rng.bytes(4) + b"WAVE" + b"".join(parts))
        recorded_at(path)


def test_what_is_no_file_says_nothing(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    assert recorded_at(tmp_path / "pipe.wav") is None
    assert recorded_at(tmp_path / "absent.wav") is None
    assert recorded_at(tmp_path) is None


def test_a_wav_that_libsndfile_wrote_says_nothing_of_its_time(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    assert recorded_at(tmp_path / "a.wav") is None
