"""Cached log-mel frames are those that serving's windows give, and are computed once."""

import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serving.audio import cut_windows, level_dbfs
from serving.errors import AudioError, UsageError
from serving.log_mel import LogMelConfig
from serving.pooling import pool_heard
from training.data.clip_frames import ClipFrames, ClipSet, padded_wave
from training.data.clips import LabelledClip
from training.data.duplicates import duplicates
from training.data.frame_cache import UnreadableError, cached_frames, load_frames
from training.fit.clip_embeddings import embed_clips
from training.fit.draws import DeviceFrames
from training.log_mel_module import LogMel
from training.networks import NetworkConfig, build_network

CONFIG = LogMelConfig()
WINDOW = CONFIG.network_window(96)  # 15 600 samples, hop 15 360
HALF = WINDOW.samples // 2


def write_clips(folder: Path, lengths: list[int]) -> list[LabelledClip]:
    rng = np.random.default_rng(0)
    clips = []
    for i, length in enumerate(lengths):
        path = folder / f"{i}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(length), 16_000, subtype="FLOAT")
        clips.append(LabelledClip(path, 0, str(i), None))
    return clips


def load(clips: list[LabelledClip], cache: Path) -> ClipFrames:
    return load_frames(clips, CONFIG, WINDOW, cache)


def test_cached_frames_hold_the_windows_that_serving_cuts(tmp_path):
    lengths = [1, 399, 15_599, 15_600, 15_601, 15_360 + HALF - 1, 15_360 + HALF, 30_960, 80_000, 100_001]
    clips = write_clips(tmp_path, lengths)
    frames = load(clips, tmp_path / "cache")
    for row, clip in enumerate(clips):
        wave, _ = soundfile.read(clip.path, dtype="float32")
        with torch.inference_mode():
            expected = LogMel(CONFIG)(torch.from_numpy(cut_windows(wave, WINDOW))).numpy()
        np.testing.assert_allclose(frames.heard_windows(row), expected, atol=1e-5)


def test_a_second_load_reads_the_cache_and_decodes_nothing(tmp_path, monkeypatch):
    clips = write_clips(tmp_path, [20_000, 40_000])
    first = load(clips, tmp_path / "cache")
    monkeypatch.setattr("serving.audio.recording.file_blocks", lambda path, *_: pytest.fail(f"decoded {path} again"))
    second = load(clips, tmp_path / "cache")
    np.testing.assert_array_equal(first.values, second.values)


def test_a_changed_recording_is_computed_anew(tmp_path):
    clips = write_clips(tmp_path, [20_000])
    first = np.array(load(clips, tmp_path / "cache").values)
    soundfile.write(clips[0].path, np.zeros(20_000), 16_000)
    assert not np.allclose(load(clips, tmp_path / "cache").values, first)


@pytest.mark.parametrize("name", ["frames.npy", "index.npz"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_cache_is_made_anew(tmp_path, name, damage):
    clips = write_clips(tmp_path, [20_000, 40_000])
    first = np.array(load(clips, tmp_path / "cache").values)
    (entry,) = (tmp_path / "cache").glob(f"*/{name}")
    if damage == "cut":
        entry.write_bytes(entry.read_bytes()[:200])
    else:
        entry.unlink()
    np.testing.assert_array_equal(load(clips, tmp_path / "cache").values, first)


def test_random_crops_are_windows_of_their_own_clip(tmp_path):
    frames = load(write_clips(tmp_path, [20_000, 40_000, 15_600]), tmp_path / "cache")
    rng = np.random.default_rng(0)
    crops = frames.crop(np.array([0, 1, 2] * 20), rng, frames.window_frames)
    assert crops.shape == (60, 96, 64)
    for crop, clip in zip(crops, [0, 1, 2] * 20, strict=True):
        start, count = frames.starts[clip], frames.counts[clip]
        own = frames.values[start : start + count]
        assert any(np.array_equal(own[i : i + 96], crop) for i in range(count - 95))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no audio at all", "not a readable audio file"), (None, "no samples"), (np.full(100, np.nan), "NaN")],
)
def test_a_recording_that_cannot_be_used_is_named(tmp_path, content, reason):
    clips = write_clips(tmp_path, [20_000])
    path = tmp_path / "bad.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, np.zeros(0) if content is None else content, 16_000, subtype="FLOAT")
    with pytest.raises(UnreadableError) as caught:
        load([*clips, LabelledClip(path, 0, "bad", None)], tmp_path / "cache")
    assert "bad.wav" in str(caught.value)
    assert reason in str(caught.value)
    assert [path.suffix for path in tmp_path.glob("cache/*") if path.suffix != ".lock"] == [".json"]  # why: no frames


def test_a_recording_that_may_not_be_read_is_listed_with_those_that_cannot_be(tmp_path, monkeypatch):
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    def unreadable(path: Path, *_: object) -> None:
        raise AudioError(f"{path}: may not be read")

    clips = write_clips(tmp_path, [20_000])
    monkeypatch.setattr("training.data.content_hash.record_of", refuse)
    monkeypatch.setattr("serving.audio.recording.file_blocks", unreadable)
    with pytest.raises(UnreadableError, match=r"0\.wav: may not be read"):
        load(clips, tmp_path / "cache")


def test_a_long_recording_has_the_log_mel_of_its_whole(tmp_path):
    (clip,) = write_clips(tmp_path, [2_500_000])
    frames = load([clip], tmp_path / "cache")
    wave, _ = soundfile.read(clip.path, dtype="float32")
    padded = np.pad(wave, (0, WINDOW.reach(len(wave)) - len(wave)))
    with torch.inference_mode():
        whole = LogMel(CONFIG)(torch.from_numpy(padded)[None])[0]
    np.testing.assert_allclose(frames.values, whole.numpy(), atol=1e-5)


def test_a_long_recording_reaches_the_network_in_parts(tmp_path):
    frames = load(write_clips(tmp_path, [300 * WINDOW.hop_samples, 20_000]), tmp_path / "cache")
    network = build_network(NetworkConfig("yamnet-compact", 2, 0.0)).eval()
    with torch.inference_mode():
        wanted = [network.embed(torch.from_numpy(frames.heard_windows(clip))).mean(dim=0) for clip in range(2)]
    sizes = []
    network.features.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    rows = embed_clips(network, ClipSet(frames, np.arange(2), np.zeros(2, np.int64)), torch.device("cpu"))
    assert max(sizes) <= 256 < sum(sizes)
    torch.testing.assert_close(rows, torch.stack(wanted))


def write_with_pauses(folder: Path) -> list[LabelledClip]:
    """A clip whose first and last second of four are digital silence, one of dither alone, and one without a pause."""
    clips = write_clips(folder, [64_000, 64_000, 64_000])
    rng = np.random.default_rng(1)
    event = np.concatenate((np.zeros(16_000), 0.1 * rng.standard_normal(32_000), np.zeros(16_000)))
    soundfile.write(clips[0].path, event, 16_000, subtype="FLOAT")
    soundfile.write(clips[1].path, rng.uniform(-1, 1, 64_000) / 32_768, 16_000, subtype="FLOAT")
    return clips


def test_clips_have_the_windows_by_which_serving_names_them(tmp_path):
    clips = write_with_pauses(tmp_path)
    frames = load(clips, tmp_path / "cache")
    for row, clip in enumerate(clips):
        wave, _ = soundfile.read(clip.path, dtype="float32")
        windows = cut_windows(wave, WINDOW)
        means = windows.mean(axis=1, keepdims=True) * np.ones(3, np.float32)  # any embedding of a window will do
        served = pool_heard(means, [level_dbfs(window) for window in windows])
        with torch.inference_mode():
            log_mels = LogMel(CONFIG)(torch.from_numpy(windows)).numpy()
        chosen = [
            np.flatnonzero([np.allclose(each, one, atol=1e-5) for one in log_mels])
            for each in frames.heard_windows(row)
        ]
        np.testing.assert_allclose(means[np.concatenate(chosen)].mean(axis=0), served, rtol=1e-5)
    assert frames.count_heard(np.arange(3)).tolist() == [3, 4, 4]


def test_random_crops_are_not_silent_unless_the_clip_is(tmp_path):
    frames = load(write_with_pauses(tmp_path), tmp_path / "cache")
    first = frames.draw_crops(np.array([0, 1, 2] * 400), np.random.default_rng(0), 48)
    crops = frames.values[first[:, None] + np.arange(48)].reshape(400, 3, 48, 64)
    silence = CONFIG.silence + 0.5  # dither adds 0.3
    assert (crops[:, 0].max(axis=(1, 2)) > silence).all()
    assert (crops[:, 1].max(axis=(1, 2)) < silence).all()
    within = (first.reshape(400, 3) - frames.starts[:3]) / (frames.counts[:3] - 48)
    assert within[:, 0].min() == pytest.approx(0.16, abs=0.02)  # the crop that ends with the first frame of the event
    assert within[:, 0].max() == pytest.approx(0.86, abs=0.02)
    assert within[:, 1:].min() < 0.02
    assert within[:, 1:].max() > 0.98


def test_a_cache_that_cannot_be_written_gets_one_line(tmp_path, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.data.frame_cache.write_atomically", full)
    with pytest.raises(UsageError, match=r"notes\.json: cannot be written \(No space left on device\).*--cache-dir"):
        load(write_clips(tmp_path, [HALF]), tmp_path / "cache")


@pytest.fixture
def long_frames(tmp_path, monkeypatch) -> tuple[ClipFrames, int]:
    """The frames of 200 clips of 10 s, 51 MB, and the most memory that was in use while two threads made them."""
    wave = 0.1 * np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
    monkeypatch.setattr("training.data.frame_file.usable_cores", lambda: 2)
    tracemalloc.start()
    try:
        frames = cached_frames(
            tmp_path / "frames", [partial(np.multiply, wave, np.float32(1))] * 200, "", CONFIG, WINDOW
        )
        return frames, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_frames_are_written_as_they_are_computed_and_copied_to_a_gpu_in_parts(long_frames):
    frames, peak = long_frames
    assert frames.values.nbytes > 50e6
    assert peak < frames.values.nbytes / 2
    copies = DeviceFrames(torch.device("cpu"))
    tracemalloc.start()
    try:
        cut = copies(frames, torch.tensor([0, len(frames.values) - 96]), 96)
        assert tracemalloc.get_traced_memory()[1] < frames.values.nbytes / 2
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(cut.numpy(), [frames.values[:96], frames.values[-96:]])


def test_pytorch_computes_in_the_threads_that_decode_and_the_numbers_do_not_depend_on_it(tmp_path):
    wave, seen = 0.1 * np.random.default_rng(0).standard_normal(160_000).astype(np.float32), set()

    def make() -> np.ndarray:
        seen.add(torch.get_num_threads())
        return wave

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        frames = cached_frames(tmp_path / "frames", [make] * 8, "", CONFIG, WINDOW)
        assert torch.get_num_threads() == 3
        with torch.inference_mode():
            alone = LogMel(CONFIG)(torch.from_numpy(padded_wave(wave, WINDOW))[None])[0]
    finally:
        torch.set_num_threads(before)
    assert seen == {1}
    np.testing.assert_array_equal(frames.values, np.tile(alone.numpy(), (8, 1)))


def test_each_recording_is_hashed_once_in_a_process_as_long_as_it_stays_the_same(tmp_path, monkeypatch):
    from training.data.content_hash import record_of

    read: list[str] = []

    def read_and_note(path: Path):
        read.append(path.name)
        return record_of(path)

    monkeypatch.setattr("training.data.content_hash.record_of", read_and_note)
    clips = write_clips(tmp_path, [20_000, 20_000, 30_000])
    load(clips, tmp_path / "cache")
    load(clips, tmp_path / "cache")
    assert duplicates(clips) == []
    assert sorted(read) == ["0.wav", "1.wav", "2.wav"]
    clips[1].path.write_bytes(clips[0].path.read_bytes())
    assert duplicates(clips) == [(clips[0], clips[1])]
    assert sorted(read) == ["0.wav", "1.wav", "1.wav", "2.wav"]
