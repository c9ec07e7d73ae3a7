"""Recordings as the field brings them: each is read whole, or what is missing is said; damage never does harm."""

import csv
import io
import json
import re
import shutil
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile
from starlette.testclient import TestClient

from serving.audio import decode_audio, file_seconds, header_seconds, read_audio
from serving.audio.file_names import sound_files
from serving.embed import main as embed_main
from serving.embedder import Embedder
from serving.errors import AudioError, AudioWarning, DurationError, FormatError
from serving.server.app import create_app
from serving.server.limits import Limits
from serving.server.pipeline import Pipeline
from tests import field_recordings as field
from tests.field_recordings import CONTAINER_KINDS, LIBSNDFILE_KINDS, SECONDS, contained, field_sound, mp3
from tests.sounds import encoded

KINDS = LIBSNDFILE_KINDS | CONTAINER_KINDS


def needs_av(name: str) -> None:
    if name in CONTAINER_KINDS:
        pytest.importorskip("av", reason="PyAV is not installed: the extra `formats`")


def loud_stretches(wave: np.ndarray, rate_hz: int) -> list[float]:
    """Where, in seconds, each stretch over -20 dB begins."""
    power = np.abs(wave).max(axis=1)[: len(wave) // 441 * 441].reshape(-1, 441).max(axis=1) > 0.1
    return [float(i * 441 / rate_hz) for i in np.flatnonzero(power & ~np.roll(power, 1))]


@pytest.mark.parametrize("by", ["path", "bytes"])
@pytest.mark.parametrize("name", KINDS)
def test_a_recording_is_read_whole_or_what_is_missing_is_said(name, by, tmp_path):
    needs_av(name)
    kind = KINDS[name]
    path = tmp_path / f"sound{kind.suffix}"
    path.write_bytes(kind.make())
    told: list[str] = []
    if by == "path":
        wave, rate_hz = read_audio(path, max_seconds=60, warn=told.append)
    else:
        wave, rate_hz = decode_audio(path.read_bytes(), str(path), 60, told.append)
    assert len(wave) / rate_hz == pytest.approx(kind.seconds, abs=kind.within + 1e-9)
    assert bool(told) == bool(kind.told)
    assert all(line.startswith(f"{path}: ") and kind.told in line and "\n" not in line for line in told)
    if not kind.told:
        begins = loud_stretches(wave, rate_hz)
        expected = [field.LOUD_S[0] + i * SECONDS for i in range(round(kind.seconds / SECONDS))]
        # Delay and padding of each stream, and the 10 ms in which the level is taken.
        assert begins == pytest.approx(expected, abs=2 * kind.within + 0.02)


@pytest.mark.parametrize("name", KINDS)
def test_a_file_states_the_seconds_that_its_bytes_state(name, tmp_path):
    needs_av(name)
    kind = KINDS[name]
    path = tmp_path / f"sound{kind.suffix}"
    path.write_bytes(kind.make())
    assert file_seconds(path) == header_seconds(path.read_bytes())


def test_a_vbr_mp3_without_its_xing_frame_gives_the_samples_of_the_same_mp3_with_it():
    whole = mp3(field_sound(), vbr=True)
    wave, _ = decode_audio(whole)
    bare, _ = decode_audio(field.without_xing(whole))
    # LAME's frame says that 1105 samples of delay come first; without it they stay, less the decoder's own 529.
    delay = 1105 - 529
    compared = slice(4 * 1152, 260_000)  # the first frames lean on bits that went with the frame taken off
    np.testing.assert_allclose(bare[delay:][compared], wave[compared], atol=1e-6)


def test_a_short_mp3_with_a_large_picture_passes_a_limit_of_its_own_length():
    data = KINDS["MP3 with cover art"].make()
    assert len(data) > 3e6
    assert len(decode_audio(data, max_seconds=7)[0]) >= SECONDS * field.RATE_HZ
    assert header_seconds(data) == pytest.approx(SECONDS, abs=0.1)
    with pytest.raises(DurationError):
        decode_audio(data, max_seconds=5)


@pytest.mark.parametrize("name", ["two MP3s joined", "two OGGs joined", "MP3 that changes its rate", "WebM", "AAC"])
def test_a_limit_in_seconds_counts_all_streams_together(name):
    needs_av(name)
    kind = KINDS[name]
    decode_audio(kind.make(), max_seconds=kind.seconds + 0.1)
    with pytest.raises(DurationError, match="lasts more than"):
        decode_audio(kind.make(), max_seconds=kind.seconds - 0.5)


@pytest.mark.parametrize(
    ("container", "codec", "rate_hz"), [("adts", "aac", 44_100), ("amr", "libopencore_amrnb", 8000)]
)
def test_a_complete_stream_whose_bit_rate_varies_is_not_called_cut_off(container, codec, rate_hz):
    """FFmpeg guesses its duration by the bits of its first packets, which are few in silence."""
    needs_av("AAC")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 25 * rate_hz)
    wave = np.concatenate([np.zeros(5 * rate_hz), noise]).astype(np.float32)[:, None]
    try:
        data = field.contained(container, codec, rate_hz, wave)
    except ValueError as error:
        pytest.skip(f"this FFmpeg does not write {container}: {error}")
    told: list[str] = []
    wave, rate_hz = decode_audio(data, warn=told.append)
    assert len(wave) / rate_hz == pytest.approx(30, abs=0.1)
    assert told == []
    assert header_seconds(data) is None


def test_python_warns_of_what_is_missing():
    with pytest.warns(AudioWarning, match=r"dawn\.ogg: cut off"):
        decode_audio(KINDS["half an OGG"].make(), "dawn.ogg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode_audio(KINDS["two OGGs joined"].make())


def test_a_wav_that_really_is_empty_has_no_samples():
    empty = field.riff(field.float_format(1), field.chunk(b"data", b""), field.chunk(b"LIST", b"INFOabcd"))
    with pytest.raises(AudioError, match="no samples"):
        decode_audio(empty)


def test_the_encoders_delay_of_an_m4a_is_left_out():
    pytest.importorskip("av")
    rate_hz = field.RATE_HZ
    click = np.zeros((44_100, 1), np.float32)
    click[22_050:22_060] = 0.9
    heard, _ = decode_audio(contained("ipod", "aac", rate_hz, click))
    assert abs(int(np.abs(heard[:, 0]).argmax()) - 22_055) < 64


def test_without_pyav_an_m4a_is_refused_with_the_way_out(monkeypatch):
    pytest.importorskip("av")
    data = KINDS["M4A"].make()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(FormatError, match=r'is MP4 or M4A; .*pip install -e "\.\[formats\]"'):
        decode_audio(data)
    assert header_seconds(data) is None


def test_a_video_without_sound_is_refused():
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    with pytest.raises(AudioError, match="has no sound in it"):
        decode_audio(buffer.getvalue())


def test_what_is_hidden_is_no_recording(tmp_path):
    for name in ("a.wav", "._a.wav", ".Trash/b.wav", "__MACOSX/._c.wav", "d/e.M4A", "d/notes.txt", "d/.f/g.opus"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [path.relative_to(tmp_path).as_posix() for path in sound_files(tmp_path)] == ["a.wav", "d/e.M4A"]
    assert sound_files(tmp_path, deep=False) == [tmp_path / "a.wav"]


END_TO_END = ("two MP3s joined", "half an OGG", "Opus", "CAF", "M4A", "WebM", "WAV never closed")


@pytest.fixture(scope="module")
def mixed_folder(tmp_path_factory) -> Path:
    """A file of each of several kinds, and two that cannot be read."""
    pytest.importorskip("av")
    folder = tmp_path_factory.mktemp("mixed")
    for name in END_TO_END:
        (folder / f"{name}{KINDS[name].suffix}").write_bytes(KINDS[name].make())
    (folder / "none.webm").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(500))
    (folder / "none.m4a").write_bytes(b"no sound at all")
    (folder / "._hidden.wav").write_bytes(b"Mac")
    return folder


def test_bulk_embeds_every_kind_lists_what_it_cannot_and_says_what_is_missing(
    bundle_folder, mixed_folder, tmp_path, capsys
):
    out = tmp_path / "rows.parquet"
    assert embed_main([str(bundle_folder), str(mixed_folder), "--out", str(out), "--threads", "1"]) == 0
    rows = {row["path"]: row for row in pyarrow.parquet.read_table(out).to_pylist()}
    assert set(rows) == {f"{name}{KINDS[name].suffix}" for name in END_TO_END}
    assert {path for path, row in rows.items() if row["warning"]} == {"half an OGG.ogg"}
    assert "cut off" in rows["half an OGG.ogg"]["warning"]
    with (tmp_path / "rows.errors.csv").open(newline="") as file:
        listed = {row["path"]: row for row in csv.DictReader(file)}
    assert {path: row["embedded"] for path, row in listed.items()} == {
        "none.webm": "no",
        "none.m4a": "no",
        "half an OGG.ogg": "in part",
    }
    assert " s" in listed["half an OGG.ogg"]["error"]  # the time
    printed = capsys.readouterr()
    result = json.loads(printed.out.strip().splitlines()[-1])
    assert (result["files"], result["errors"], result["warnings"]) == (len(END_TO_END) + 2, 2, 1)
    assert "a part is missing: 1; see the column" in printed.err
    assert "skipped 1 hidden files" in printed.err


def test_files_of_python_warn_of_the_part_that_is_missing(bundle_folder, mixed_folder):
    embedder = Embedder.load(bundle_folder)
    with pytest.warns(AudioWarning, match="cut off"):
        assert embedder.embed_files([mixed_folder / "half an OGG.ogg"]).shape == (1, 128)


def test_http_reads_every_kind_and_says_what_is_missing(bundle_folder, mixed_folder):
    pipeline = Pipeline(Embedder.load(bundle_folder, threads=1), Limits())
    with TestClient(create_app(pipeline)) as client:
        for name in END_TO_END:
            kind = KINDS[name]
            data = (mixed_folder / f"{name}{kind.suffix}").read_bytes()
            answer = client.post("/v1/embed", content=data)
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json()["duration_s"] == pytest.approx(kind.seconds, abs=kind.within + 1e-9)
            assert bool(answer.json()["warnings"]) == bool(kind.told)
            raw = client.post("/v1/embed", content=data, headers={"accept": "application/octet-stream"})
            assert bool(raw.headers["x-audio-warnings"]) == bool(kind.told)
        assert client.post("/v1/embed", content=b"\x1a\x45\xdf\xa3" + bytes(500)).status_code == 415
        tagged = KINDS["MP3 with cover art"].make()
        files = [("files", ("a.mp3", tagged)), ("files", ("b.mp3", mp3(field_sound())))]
        assert len(client.post("/v1/embed", files=files).json()["results"]) == 2
    pipeline.close()


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut at a random place, with bytes changed, or with a stretch taken out."""
    piece = bytearray(data)
    if rng.random() < 0.5:
        del piece[int(rng.integers(1, len(piece))) :]
    for _ in range(int(rng.integers(0, 30))):
        # Half of the changes hit the headers, where they do most.
        at = int(rng.integers(0, min(200, len(piece)) if rng.random() < 0.5 else len(piece)))
        piece[at] = int(rng.integers(0, 256))
    if rng.random() < 0.3:
        start = int(rng.integers(0, len(piece)))
        del piece[start : start + int(rng.integers(1, 5000))]
    return bytes(piece)


def test_damaged_files_are_read_in_part_or_refused_and_never_worse(tmp_path):
    names = list(LIBSNDFILE_KINDS)
    try:
        import av  # noqa: F401

        names += list(CONTAINER_KINDS)
    except ImportError:
        pass
    whole = {name: KINDS[name].make() for name in names if "cover art" not in name}
    names = list(whole)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        data = damaged(whole[names[seed % len(names)]], rng)
        started = time.process_time()
        try:
            wave, _ = decode_audio(data, "x", max_seconds=20, warn=lambda line: None)
            assert np.isfinite(wave).all()
            assert 0 < wave.size <= 20 * 384_000 + 1
            header_seconds(data)
        except AudioError as error:
            assert str(error).startswith("x: ")  # noqa: PT017
        # 20 s of sound decode in less than 0.2 s; ten times that and more is another order of work.
        assert time.process_time() - started < 5, (seed, names[seed % len(names)])


def test_bytes_that_look_like_many_headers_cost_no_more_than_time_in_proportion():
    hostile = [
        b"\xff\xfb\x90\x64" * 500_000,
        (b"\xff\xf3\x14\xc4" + bytes(20)) * 100_000,
        b"ID3\4\0\0\0\0\0\0" * 200_000,
        b"APETAGEX" * 250_000,
        b"LYRICSBEGIN" * 200_000,
        b"Info" * 500_000,
        (b"OggS\0\2" + bytes(8) + b"abcd" + bytes(8) + b"\1\1x") * 60_000,
        np.random.default_rng(0).bytes(2_000_000),
    ]
    for data in hostile:
        started = time.process_time()
        with pytest.raises(AudioError):
            decode_audio(data, max_seconds=60, warn=lambda line: None)
        header_seconds(data)
        assert time.process_time() - started < 10, data[:20]  # 2 MB each; seen: under 2 s


def test_soundfile_agrees_where_nothing_is_wrong(tmp_path):
    for file_format in ("WAV", "FLAC", "OGG", "MP3"):
        data = field.encoded(field_sound(), file_format=file_format)
        expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        np.testing.assert_array_equal(decode_audio(data)[0], expected)


def test_a_training_names_all_bad_files_at_once_and_can_leave_them_out(recordings, tmp_path, capsys):
    pytest.importorskip("torch")
    from training.data.clips import load_clips
    from training.run import main

    folder = tmp_path / "data"
    shutil.copytree(recordings, folder)
    (folder / "tone" / "bad.wav").write_bytes(b"no sound")
    (folder / "noise" / "worse.mp3").write_bytes(bytes(500))
    (folder / "noise" / "half.ogg").write_bytes(KINDS["half an OGG"].make())
    (folder / "noise" / "phone.opus").write_bytes(KINDS["Opus"].make())
    (folder / "noise" / "._a.wav").write_bytes(b"Mac")
    command = [
        "--dataset",
        "folder",
        "--data-dir",
        str(folder),
        "--cache-dir",
        str(tmp_path / "cache"),
        "--epochs",
        "1",
    ]
    command += ["--network", "yamnet-compact", "--vocabulary", "0", "--text", "glove", "--out", str(tmp_path / "run")]
    for _ in range(2):  # at once the second time
        assert main(command) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "2 recordings cannot be read" in error
        assert "bad.wav" in error
        assert "worse.mp3" in error
        assert "--skip-unreadable" in error
        assert "._a.wav" not in error
    assert main([*command, "--skip-unreadable"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out.strip().splitlines()[-1])
    assert (result["skipped"], result["read_in_part"]) == (2, 1)
    assert "half.ogg: cut off" in printed.err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["skipped"] == 2
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert sorted(config["skipped"]) == ["noise/worse.mp3", "tone/bad.wav"]
    assert len(load_clips("folder", folder).clips) == 28


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("keeps_headers", [False, True])
def test_a_hole_in_an_ogg_is_told_with_how_much_later_times_are_off(subtype, keeps_headers):
    wave = np.random.default_rng(1).normal(0, 0.1, 48_000 * 20)
    data = encoded(wave, 48_000, "OGG", subtype)
    middle = len(data) // 2
    at = data.index(b"OggS", middle) + 300 if keeps_headers else middle  # inside of a page, or wherever it is
    size = 10 if keeps_headers else 30_000
    overwritten = data[:at] + b"\xaa" * size + data[at + size :]
    notes: list[str] = []
    read, rate_hz = decode_audio(overwritten, "night.ogg", warn=notes.append)
    missing_s = 20 - len(read) / rate_hz
    assert missing_s > 0.05
    told = f"{missing_s:.1f} s in the middle are missing; times after them are up to {missing_s:.1f} s too early"
    assert told in " ".join(notes)
    assert "cut off" not in " ".join(notes)


def test_a_hole_in_an_mp3_is_told_with_how_much_later_times_are_off():
    data = mp3(np.random.default_rng(1).normal(0, 0.1, field.RATE_HZ * 20))
    middle = len(data) // 2
    notes: list[str] = []
    read, rate_hz = decode_audio(data[:middle] + b"\xaa" * 10_000 + data[middle + 10_000 :], warn=notes.append)
    off_s = float(re.findall(r"up to (\d+\.\d) s too early", " ".join(notes))[0])
    assert off_s == pytest.approx(20 - len(read) / rate_hz, abs=0.1)  # the encoder pads with part of a second
    assert off_s > 0.5
