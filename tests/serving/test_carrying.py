"""An Embedder goes along to other processes, and is the same there; and what it takes besides sounds."""

import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from demo.bundle_choice import FROM_SCRATCH
from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.embedder import Embedder
from serving.errors import AudioError, BundleError, UsageError
from serving.text_model.text_model import TextModel
from tests.servers import with_network
from tests.sounds import encoded, harmonics

RATE_HZ = 16_000
TOLERANCE = 1e-5  # of numbers of embeddings: another process may batch or thread otherwise
WAVES = [harmonics(RATE_HZ)[: length * 1000] for length in (20, 40, 60, 80)]


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def embedder(request) -> Embedder:
    return Embedder.load(FROM_SCRATCH, request.param, precision="fp16", threads=2)


@pytest.fixture(scope="module")
def expected(embedder) -> np.ndarray:
    return np.stack([embedder.embed(wave, RATE_HZ) for wave in WAVES])


class Clips(Dataset):
    """Embeds in whoever asks for an item."""

    def __init__(self, embedder: Embedder):
        self.embedder = embedder

    def __len__(self) -> int:
        return len(WAVES)

    def __getitem__(self, item: int) -> torch.Tensor:
        return torch.from_numpy(self.embedder.embed(WAVES[item], RATE_HZ))


def embed_first(embedder: Embedder) -> tuple[np.ndarray, str, str, int]:
    return embedder.embed(WAVES[0], RATE_HZ), embedder.backend, embedder.precision, embedder.threads


def test_a_pickled_embedder_is_opened_again_as_it_was_opened_first(embedder, expected):
    again = pickle.loads(pickle.dumps(embedder))
    assert again.runtime is not embedder.runtime
    assert (again.backend, again.precision, again.threads) == (embedder.backend, "fp16", 2)
    assert again.manifest == embedder.manifest
    np.testing.assert_allclose([again.embed(wave, RATE_HZ) for wave in WAVES], expected, atol=TOLERANCE)


def test_a_pickle_is_small_for_it_holds_no_weights(embedder):
    assert len(pickle.dumps(embedder)) < 10_000


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_shares_the_runtime(embedder, expected, duplicate: Callable[[Embedder], Embedder]):
    again = duplicate(embedder)
    assert again is not embedder
    assert again.runtime is embedder.runtime
    np.testing.assert_array_equal(again.embed(WAVES[0], RATE_HZ), expected[0])
    assert duplicate([embedder])[0].runtime is embedder.runtime


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_another_process_gives_the_same_embeddings(embedder, expected, method):
    with multiprocessing.get_context(method).Pool(1) as pool:
        row, *opened = pool.apply_async(embed_first, [embedder]).get(timeout=120)
    np.testing.assert_allclose(row, expected[0], atol=TOLERANCE)
    assert opened == [embedder.backend, "fp16", 2]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_the_workers_of_a_data_loader_embed(embedder, expected, method):
    loader = DataLoader(Clips(embedder), batch_size=2, num_workers=1, multiprocessing_context=method, timeout=120)
    np.testing.assert_allclose(torch.cat(list(loader)), expected, atol=TOLERANCE)


def test_a_relative_folder_is_found_from_another_working_directory(tmp_path, monkeypatch):
    shutil.copytree(FROM_SCRATCH, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Embedder.load("bundle", "onnxruntime", threads=1))
    monkeypatch.chdir("/")
    assert pickle.loads(data).bundle.folder == tmp_path / "bundle"


def test_a_bundle_that_was_replaced_in_between_is_refused(tmp_path):
    folder = Path(shutil.copytree(FROM_SCRATCH, tmp_path / "bundle"))
    embedder, model = Embedder.load(folder, "onnxruntime", threads=1), TextModel.load(open_bundle(folder))
    stored = [pickle.dumps(each) for each in (embedder, model)]
    (folder / "README.md").write_text("another")
    write_manifest(folder, replace(embedder.manifest, files={}))
    for data in stored:
        with pytest.raises(BundleError, match=r"holds another bundle than when it was opened first .other: README"):
            pickle.loads(data)
    shutil.rmtree(folder)
    with pytest.raises(BundleError, match="no such bundle folder"):
        pickle.loads(stored[0])


def test_only_what_load_has_made_can_be_pickled(embedder):
    made = Embedder(embedder.bundle, with_network(embedder, lambda x: x).runtime, "fp32", 1)
    with pytest.raises(TypeError, match=r"only an Embedder that Embedder\.load has made"):
        pickle.dumps(made)


def test_the_parts_of_an_embedder_can_be_pickled_and_copied(embedder):
    model = TextModel.load(embedder.bundle)
    for duplicate in (lambda each: pickle.loads(pickle.dumps(each)), copy.deepcopy):
        zeroshot, bundle, text = map(duplicate, (embedder.zeroshot, embedder.bundle, model))
        np.testing.assert_array_equal(zeroshot.class_vectors, embedder.zeroshot.class_vectors)
        assert bundle == embedder.bundle
        np.testing.assert_allclose(text.encode(["a cat"]), model.encode(["a cat"]), atol=1e-6)
    ranked = embedder.classify(WAVES[0], RATE_HZ)
    again = pickle.loads(pickle.dumps(ranked))
    assert (again, again.level_dbfs, again.unknown_words) == (ranked, ranked.level_dbfs, {})


@pytest.mark.parametrize("one", ["dog.ogg", Path("dog.ogg"), b"dog.ogg"])
def test_one_path_in_place_of_a_list_is_refused(embedder, one):
    with pytest.raises(UsageError, match=r"paths: got the single path.*dog.ogg.*wanted a list of paths"):
        embedder.embed_files(one)


@pytest.mark.parametrize("paths", [None, 3, [b"dog.ogg"], [None], [["dog.ogg"]], np.array([["dog.ogg"]])])
def test_what_is_no_list_of_paths_is_refused(embedder, paths):
    with pytest.raises(UsageError, match=r"paths: got .*wanted (a list of paths|paths as str)"):
        embedder.embed_files(paths)


def test_paths_may_come_from_a_generator_a_set_or_an_array(embedder, expected, tmp_path):
    paths = [tmp_path / f"{i}.wav" for i in range(len(WAVES))]
    for path, wave in zip(paths, WAVES, strict=True):
        path.write_bytes(encoded(wave, subtype="FLOAT"))
    for some in ((path for path in paths), np.array([str(path) for path in paths]), tuple(paths), dict.fromkeys(paths)):
        np.testing.assert_allclose(embedder.embed_files(some), expected, atol=TOLERANCE)


def test_a_folder_among_the_paths_is_named(embedder, tmp_path):
    with pytest.raises(AudioError, match=f"{tmp_path}: cannot be read"):
        embedder.embed_files([tmp_path])


@pytest.mark.parametrize("shape", [(1, 500), (2, 16_000), (1, 9), (8, 9), (100, 101)])
def test_more_channels_than_samples_are_refused(embedder, shape):
    wave = np.zeros(shape, np.float32)
    words = rf"got \[{shape[0]}, {shape[1]}\], {shape[1]} channels of {shape[0]} samples.*transpose it"
    for call in (embedder.embed, embedder.embed_windows, embedder.classify, embedder.log_mel):
        with pytest.raises(AudioError, match=words):
            call(wave, RATE_HZ)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 8), (7, 8), (500, 1), (101, 100)])
def test_a_few_samples_of_a_few_channels_are_a_sound(embedder, shape):
    assert embedder.embed(np.full(shape, 0.5, np.float32), RATE_HZ).shape == (128,)
