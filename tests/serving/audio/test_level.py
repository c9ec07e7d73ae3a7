"""How loud a sound is, and that silence is called silent wherever sounds are ranked."""

import numpy as np
import pytest

from demo.answer import rank_typed
from demo.bundle_choice import FROM_SCRATCH
from demo.embedded_recording import embed_recording
from demo.heard import NOTHING
from demo.labels.ranked_labels import rank_labels
from demo.verdict import NOTHING_TO_HEAR, judge
from serving.audio import LOWEST_DBFS, SILENT_DBFS, decode_audio, is_silent, level_dbfs, read_audio, to_mono
from serving.embedder import Embedder
from tests.servers import client_of
from tests.sounds import encoded, harmonics

RATE_HZ = 16_000
NOISE = (0.1 * np.random.default_rng(0).uniform(-1, 1, 3 * RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def shipped() -> Embedder:
    return Embedder.load(FROM_SCRATCH, "onnxruntime", threads=1)


def dither() -> np.ndarray:
    """Triangular dither of 16 bits: what a digital recorder writes of silence. [n_samples] float32."""
    return (np.rint(np.random.default_rng(0).uniform(-0.5, 0.5, (2, 5 * RATE_HZ)).sum(axis=0)) / 2**15).astype("f4")


def test_the_level_is_that_of_the_peak():
    assert level_dbfs(0.5 * np.sin(np.arange(RATE_HZ))) == pytest.approx(-6.02, abs=0.01)
    assert level_dbfs(np.array([0.0, -1.0])) == 0
    assert level_dbfs(np.zeros(10)) == level_dbfs(np.full(10, 1e-30)) == LOWEST_DBFS


SOFT = {
    "digital silence": np.zeros(5 * RATE_HZ, np.float32),
    "one sample of silence": np.zeros(1, np.float32),
    "16-bit dither": dither(),
    "channels that cancel": np.stack([NOISE, -NOISE], axis=1),
}


@pytest.mark.parametrize("wave", SOFT.values(), ids=SOFT)
def test_silence_is_called_silent_in_python_over_http_and_in_the_demo(shipped, wave, tmp_path):
    ranked = shipped.classify(wave, RATE_HZ)
    assert ranked.silent
    assert ranked.level_dbfs < SILENT_DBFS
    assert [label for label, _ in ranked]  # it is ranked all the same
    body = encoded(wave, subtype="FLOAT")
    for address in ("/v1/embed", "/v1/classify"):
        told = client_of(shipped).post(address, content=body).json()
        assert told["silent"] is True
        assert told["level_dbfs"] == pytest.approx(ranked.level_dbfs, abs=0.01)
    (tmp_path / "silence.wav").write_bytes(body)
    heard = embed_recording(shipped, tmp_path / "silence.wav")
    assert heard.is_silent
    assert judge(rank_labels(shipped, heard.rows, None), heard.is_silent).text == NOTHING_TO_HEAR


def test_silent_windows_do_not_change_what_a_sound_is_named(shipped, tmp_path):
    window = shipped.manifest.window
    assert window.rate_hz == RATE_HZ
    sound = np.resize(NOISE, window.hop_samples)
    sound[: window.samples - window.hop_samples] = 0  # nothing of it is in the windows before and after
    pause = np.zeros(9 * window.hop_samples, np.float32)
    named = shipped.classify(sound, RATE_HZ)
    assert not np.allclose(
        shipped.embed(np.concatenate([sound, pause]), RATE_HZ), shipped.embed(sound, RATE_HZ), atol=0.1
    )
    for wave in (np.concatenate([sound, pause]), np.concatenate([pause, sound])):
        assert shipped.classify(wave, RATE_HZ) == [(label, pytest.approx(share, abs=1e-4)) for label, share in named]
        (tmp_path / "paused.wav").write_bytes(encoded(wave, subtype="FLOAT"))
        body = (tmp_path / "paused.wav").read_bytes()
        told = client_of(shipped).post("/v1/classify", content=body).json()["ranking"]
        assert {each["label"]: each["score"] for each in told} == pytest.approx(dict(named), abs=1e-4)
        shown = rank_typed(shipped, embed_recording(shipped, tmp_path / "paused.wav"), "", 0.0, "")
        assert dict(shown.ranking) == pytest.approx(dict(named), abs=1e-4)


def test_the_idle_code_of_a_law_is_silence():
    wave, _ = decode_audio(encoded(np.zeros(RATE_HZ, np.float32), subtype="ALAW"))
    assert wave.any()
    assert is_silent(level_dbfs(wave))


def test_a_sound_is_not_called_silent_because_of_long_pauses(shipped):
    wave = np.zeros(60 * RATE_HZ, np.float32)
    wave[:80] = 0.05 * harmonics(RATE_HZ)[:80] / np.abs(harmonics(RATE_HZ)[:80]).max()  # 5 ms
    assert 10 * np.log10(np.square(wave).mean()) < SILENT_DBFS  # which the RMS of it would be
    told = client_of(shipped).post("/v1/classify", content=encoded(wave, subtype="FLOAT")).json()
    assert told["silent"] is False
    assert told["level_dbfs"] == pytest.approx(-26.02, abs=0.01)


def test_each_window_has_its_level(shipped, tmp_path):
    window = shipped.manifest.window
    wave = np.zeros(window.samples + 2 * window.hop_samples, np.float32)
    wave[window.hop_samples + 500 :][: len(NOISE)] = NOISE
    client = client_of(shipped)
    told = client.post("/v1/embed?windows=true", content=encoded(wave, subtype="FLOAT")).json()
    assert [each["silent"] for each in told["windows"]] == [True, False, True]
    assert [each["level_dbfs"] for each in told["windows"]] == [-120, pytest.approx(-20, abs=0.1), -120]
    assert told["silent"] is False
    (tmp_path / "noise.wav").write_bytes(encoded(wave, subtype="FLOAT"))
    assert [is_silent(level) for level in embed_recording(shipped, tmp_path / "noise.wav").levels] == [
        True,
        False,
        True,
    ]


def test_the_timeline_names_no_silence(shipped, tmp_path):
    wave = np.concatenate([NOISE, np.zeros(12 * RATE_HZ, np.float32)])
    (tmp_path / "noise.wav").write_bytes(encoded(wave, subtype="FLOAT"))
    heard = embed_recording(shipped, tmp_path / "noise.wav")
    named = rank_labels(shipped, heard.rows, None).named_windows(list(map(is_silent, heard.levels)))
    assert named[-1] == NOTHING


def test_no_real_recording_is_silent(esc10):
    levels = [level_dbfs(to_mono(*read_audio(path), RATE_HZ)) for path in sorted((esc10 / "audio").iterdir())[::10]]
    assert min(levels) > SILENT_DBFS + 20
