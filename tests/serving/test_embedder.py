"""One class for Python users: the same embedding alone or in company, from one thread or from many."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serving.audio import PreparedWindows, RecordingStream, read_audio
from serving.bulk.embed_files import FileEmbeddings, embed_each
from serving.embedder import Embedder
from serving.errors import AudioError, LabelError, UsageError
from serving.pooling import pool
from tests.sounds import encoded, harmonics

TOLERANCE = 1e-5  # of numbers of embeddings whose mean length is 1
RATE_HZ = 16_000


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def each(request, bundle_folder) -> Embedder:
    """An Embedder on each backend of a CPU."""
    return Embedder.load(bundle_folder, request.param, threads=2)


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    """Twenty clips of one to three windows, the loud beside the silent."""
    rng = np.random.default_rng(3)
    sounds = [rng.uniform(1e-4, 0.3) * rng.standard_normal(int(rng.uniform(0.2, 14) * RATE_HZ)) for _ in range(18)]
    return [*(sound.clip(-1, 1).astype(np.float32) for sound in sounds), np.zeros(16_000, np.float32), np.ones(1)]


def test_an_embedding_does_not_depend_on_the_batch_that_it_shares(each, sounds):
    windows = [each.windows(sound, RATE_HZ) for sound in sounds]
    alone = np.concatenate([each.runtime(window[None]) for clip in windows for window in clip])
    rng = np.random.default_rng(0)
    for size in (2, 5, 8, 17):
        order = rng.permutation(len(alone))
        together = np.empty_like(alone)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            together[chosen] = each.run(np.concatenate(windows)[chosen])
        np.testing.assert_allclose(together, alone, atol=TOLERANCE, err_msg=f"batches of {size}")


def test_many_threads_get_what_one_gets(each, sounds):
    expected = [each.embed(sound, RATE_HZ) for sound in sounds]
    barrier = threading.Barrier(8)

    def work(worker: int) -> float:
        barrier.wait()
        order = np.random.default_rng(worker).permutation(len(sounds))[:8]
        return max(float(np.abs(each.embed(sounds[i], RATE_HZ) - expected[i]).max()) for i in order)

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(work, range(8))) <= TOLERANCE


def test_files_embed_as_their_clips_do(each, sounds, tmp_path):
    paths = [tmp_path / f"{i}.wav" for i in range(len(sounds))]
    for path, sound in zip(paths, sounds, strict=True):
        soundfile.write(path, sound, RATE_HZ, subtype="FLOAT")
    expected = np.stack([each.embed(*read_audio(path)) for path in paths])
    np.testing.assert_allclose(each.embed_files(paths), expected, atol=TOLERANCE)


def test_a_clips_embedding_is_the_mean_of_its_windows(embedder, sounds):
    for sound in sounds[:4]:
        rows = embedder.embed_windows(sound, RATE_HZ)
        np.testing.assert_allclose(embedder.embed(sound, RATE_HZ), rows.mean(axis=0), atol=TOLERANCE)
        np.testing.assert_array_equal(pool(rows), rows.mean(axis=0))


def test_no_files_are_no_embeddings(embedder):
    assert embedder.embed_files([]).shape == (0, 128)


def test_the_first_file_that_cannot_be_used_is_named(embedder, recordings, tmp_path):
    good = next(recordings.glob("tone/*.wav"))
    for name in ("b.wav", "c.wav"):
        (tmp_path / name).write_text("not audio")
    with pytest.raises(AudioError, match=r"b\.wav"):
        embedder.embed_files([good, tmp_path / "b.wav", good, tmp_path / "c.wav"])


def test_a_file_at_a_rate_that_cannot_be_used_is_named(embedder, tmp_path):
    soundfile.write(tmp_path / "slow.wav", np.zeros(100), 50)
    with pytest.raises(AudioError, match=r"slow\.wav: .*50 Hz"):
        embedder.embed_files([tmp_path / "slow.wav"])


def test_a_pipe_without_a_writer_is_refused_and_not_waited_for(embedder, tmp_path):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    for read in (lambda: embedder.embed_files([pipe]), lambda: next(embedder.stream(pipe))):
        with pytest.raises(AudioError, match=f"{pipe}: is a pipe, a socket or a device; give files"):
            read()


def test_real_recordings_embed_the_same_from_files_and_from_waves(embedder, esc10):
    paths = sorted((esc10 / "audio").iterdir())[:12]
    expected = np.stack([embedder.embed(*read_audio(path)) for path in paths])
    np.testing.assert_allclose(embedder.embed_files(paths), expected, atol=TOLERANCE)


@pytest.mark.parametrize("threads", [0, -1, 5000, "2", 1.5])
def test_a_number_of_threads_out_of_range_is_refused(bundle_folder, threads):
    with pytest.raises(UsageError, match="threads"):
        Embedder.load(bundle_folder, threads=threads)


@pytest.mark.parametrize("offset", [float("nan"), float("inf"), -1e300])
def test_an_offset_beyond_all_scores_is_refused(embedder, offset):
    with pytest.raises(UsageError, match="offset: got"):
        embedder.classify(np.zeros(16_000, np.float32), 16_000, offset=offset)


@pytest.mark.parametrize("labels", ["tone", [None], [3], []])
def test_labels_that_are_no_list_of_texts_are_refused(embedder, labels):
    with pytest.raises(LabelError, match="labels: got"):
        embedder.classify(np.zeros(16_000, np.float32), 16_000, labels)


def test_labels_may_come_from_a_generator(embedder):
    names = embedder.zeroshot.class_names[:2]
    ranked = embedder.classify(np.zeros(16_000, np.float32), 16_000, (name for name in names))
    assert sorted(name for name, _ in ranked) == sorted(names)


@pytest.mark.parametrize("rate_hz", ["16000", None, [16_000], float("nan"), 1j])
def test_a_rate_that_is_no_number_is_refused(embedder, rate_hz):
    with pytest.raises(AudioError, match="got a rate of") as caught:
        embedder.embed(np.zeros(16_000, np.float32), rate_hz)
    of_type = f"{rate_hz!r}, of type {type(rate_hz).__name__}; wanted a number of Hz"
    assert (of_type in str(caught.value)) is not isinstance(rate_hz, float)


def test_windows_of_another_shape_are_refused(embedder):
    samples = embedder.manifest.window.samples
    for shape, dtype in (((0, samples), np.float32), ((1, samples - 1), np.float32), ((samples,), np.float32),
                         ((1, samples), np.float64)):  # fmt: skip
        with pytest.raises(AudioError, match="windows: got"):
            embedder.run(np.zeros(shape, dtype))


def test_a_path_that_cannot_be_one_is_named(embedder):
    with pytest.raises(AudioError, match="cannot be read"):
        embedder.embed_files(["a\0b.wav"])


def test_threads_default_to_the_usable_cores(bundle_folder, monkeypatch):
    monkeypatch.setattr("serving.runtime_choice.usable_cores", lambda: 3)
    assert Embedder.load(bundle_folder).threads == 3


def test_nothing_is_opened_that_is_not_asked_for(bundle_folder, tmp_path):
    """The front end is for pictures, the text model for typed labels: without them they take no memory."""
    embedder = Embedder.load(bundle_folder)
    embedder.classify(np.zeros(100, np.float32), RATE_HZ)
    assert "_front_end" not in vars(embedder)
    assert not embedder.labels.has_open_text_model
    assert embedder.log_mel(np.zeros(100, np.float32), RATE_HZ).shape == (1, 480, 64)
    assert "_front_end" in vars(embedder)


# What embeds many files, with files that are numbers and a model that doubles them.


@dataclass
class PreparedNumber:
    """A file whose windows are all in one block."""

    duration_s: float
    inputs: np.ndarray
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[PreparedWindows]:
        starts = np.arange(len(self.inputs), dtype=float)
        yield PreparedWindows(
            starts_s=starts, ends_s=starts + 1, padded=starts < 0, levels_dbfs=0 * starts, inputs=self.inputs
        )


def decode(number: int) -> PreparedNumber:
    return PreparedNumber(float(number), np.full((1 + number % 3, 1), number, np.float32))


def double(windows: np.ndarray) -> np.ndarray:
    return 2 * windows


def test_outcomes_come_in_order_with_errors_in_their_places():
    def decode_even(number: int) -> PreparedNumber:
        if number % 5 == 3:
            raise AudioError(f"{number} is bad")
        return decode(number)

    outcomes = list(embed_each(range(100), lambda _: 1, decode_even, double, batch=8, threads=4))
    assert [number for number, _ in outcomes] == list(range(100))
    for number, outcome in outcomes:
        if number % 5 == 3:
            assert isinstance(outcome, AudioError)
            assert str(outcome) == f"{number} is bad"
        else:
            assert isinstance(outcome, FileEmbeddings)
            assert outcome.duration_s == number
            np.testing.assert_array_equal(outcome.rows, np.full((1 + number % 3, 1), 2 * number))


def test_only_a_few_of_many_files_are_in_memory():
    given, taken, most = 0, 0, 0

    def files():
        nonlocal given
        while given < 2000:
            given += 1
            yield given

    for _ in embed_each(files(), lambda _: 1, decode, double, batch=8, threads=2):
        taken += 1
        most = max(most, given - taken)
    assert taken == 2000
    assert most <= 2 * 2 * 8  # for each thread the batch that it works on, and the next


def test_large_files_are_shared_one_by_one():
    """A batch of hours in one thread would leave the others without work at the end."""
    both = threading.Barrier(2, timeout=30)

    def decode_beside_another(number: int) -> PreparedNumber:
        both.wait()
        return decode(number)

    outcomes = embed_each(range(2), lambda _: 2**30, decode_beside_another, double, batch=8, threads=2)
    assert [number for number, _ in outcomes] == [0, 1]


def test_a_few_files_are_shared_by_all_threads(bundle_folder, tmp_path, monkeypatch):
    both = threading.Barrier(2, timeout=30)
    open_recording = Embedder.open_recording

    def decode_beside_another(self: Embedder, path: Path) -> RecordingStream:
        both.wait()
        return open_recording(self, path)

    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path in paths:
        path.write_bytes(encoded(harmonics(RATE_HZ)))
    monkeypatch.setattr(Embedder, "open_recording", decode_beside_another)
    assert Embedder.load(bundle_folder, threads=2).embed_files(paths).shape == (2, 128)


def test_which_files_share_a_call_of_the_model_is_no_chance():
    calls: list[list[float]] = []

    def run(windows: np.ndarray) -> np.ndarray:
        calls.append(windows[:, 0].tolist())
        return windows

    def decode_slowly(number: int) -> PreparedNumber:
        time.sleep(0.002 * (number % 2))
        return PreparedNumber(1.0, np.full((1, 1), number, np.float32))

    list(embed_each(range(20), lambda _: 1, decode_slowly, run, batch=8, threads=3))
    assert sorted(calls) == [[*map(float, range(8))], [*map(float, range(8, 16))], [*map(float, range(16, 20))]]


def test_decoding_and_embedding_overlap():
    """While one thread has the model, another decodes: here the model does not end before it has."""
    decoded = threading.Event()

    def decode_and_tell(number: int) -> PreparedNumber:
        if number == 1:
            decoded.set()
        return decode(number)

    def run(windows: np.ndarray) -> np.ndarray:
        assert decoded.wait(30), "nothing was decoded while the model was at work"
        return windows

    assert len(list(embed_each(range(6), lambda _: 1, decode_and_tell, run, batch=1, threads=2))) == 6


def test_a_fault_that_is_not_the_files_ends_it_and_its_threads():
    def broken(number: int) -> PreparedNumber:
        raise MemoryError(number)

    before = set(threading.enumerate())
    with pytest.raises(MemoryError):
        list(embed_each(range(100), lambda _: 1, broken, double, batch=8, threads=2))
    assert set(threading.enumerate()) <= before


def test_whoever_wants_no_more_leaves_no_threads():
    before = set(threading.enumerate())
    outcomes = embed_each(range(100), lambda _: 1, decode, double, batch=8, threads=2)
    next(outcomes)
    outcomes.close()
    assert set(threading.enumerate()) <= before


def test_whoever_wants_no_more_does_not_wait_for_the_end_of_a_long_file():
    begun, read = threading.Event(), 0

    class Night(PreparedNumber):
        def __iter__(self) -> Iterator[PreparedWindows]:
            nonlocal read
            for _ in range(20_000):
                read += 1
                begun.set()
                time.sleep(0.001)
                yield from super().__iter__()

    def open_file(number: int) -> PreparedNumber:
        return Night(1.0, np.zeros((1, 1), np.float32)) if number else decode(number)

    outcomes = embed_each(range(3), lambda _: 2**30, open_file, double, batch=8, threads=2)
    assert next(outcomes)[0] == 0
    assert begun.wait(30)
    before = read
    outcomes.close()
    assert read < before + 1000


def test_a_bundle_on_a_read_only_disk_opens(bundle_folder, tmp_path):
    copy = Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))
    for path in copy.rglob("*"):
        path.chmod(0o444)
    copy.chmod(0o555)
    try:
        before = sorted(path.name for path in copy.iterdir())
        Embedder.load(copy).embed(np.zeros(100, np.float32), RATE_HZ)
        assert sorted(path.name for path in copy.iterdir()) == before
    finally:
        copy.chmod(0o755)
