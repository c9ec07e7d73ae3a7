"""The classes of published weights: where their scores grow in an embedding, and what that says of unseen classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from serving.errors import DataError
from serving.zeroshot import unit_rows
from serving.zeroshot.zeroshot_file import read_zeroshot
from tests.published_yamnet import published_yamnet, write_keras
from training.evaluation.scoring import zsl
from training.prototype_map import ClassSide, prototype_map
from training.published.audioset_classes import (
    CLASS_FILE,
    PublishedClassifier,
    published_classifier,
)
from training.regression import Anchors

NUMBERS = {"Speech": 0, "Silence": 494, "Field recording": 520}  # YAMNet's numbers of some classes


def by_length(texts):
    """An encoder that knows no name of fewer than four letters."""
    if any(len(text) < 4 for text in texts):
        raise DataError("too short")
    return np.array([[len(text), 1.0] for text in texts], np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    return write_keras(published_yamnet(seed=3, scaled=False), tmp_path_factory.mktemp("weights") / "yamnet.h5")


def test_the_names_are_those_of_the_scores():
    names = CLASS_FILE.read_text().splitlines()
    assert len(names) == len(set(names)) == 521
    assert {name: names.index(name) for name in NUMBERS} == NUMBERS


def test_the_classifier_is_read_from_the_weights_for_the_names_that_the_encoder_knows(weights):
    names = CLASS_FILE.read_text().splitlines()
    known = [number for number, name in enumerate(names) if len(name) >= 4]
    assert len(known) < 521
    found = published_classifier(weights, by_length)
    wanted = published_yamnet(seed=3, scaled=False).classifier.weight.detach().numpy()
    np.testing.assert_array_equal(found.weights, wanted[known])
    np.testing.assert_array_equal(found.texts[:, 0], [len(names[number]) for number in known])


def test_weights_without_the_classifier_have_no_classes(weights, tmp_path):
    tensors = {"classifier.weight": torch.zeros(7, 1024)}
    torch.save(tensors, tmp_path / "other.pt")
    assert published_classifier(tmp_path / "other.pt", by_length) is None
    torch.save({"layer1.fused.conv.weight": torch.zeros(32, 1, 3, 3)}, tmp_path / "none.pt")
    assert published_classifier(tmp_path / "none.pt", by_length) is None


def test_a_bundle_with_googles_weights_has_their_classifier(weights):
    found = published_classifier(Path(__file__).parents[2] / "demo" / "model" / "embedder.onnx", by_length)
    assert found is not None
    assert found.weights.shape == (len(found.texts), 1024)
    # The classes of dogs are nearer to each other than to music, so the names belong to the rows.
    names = [name for name in CLASS_FILE.read_text().splitlines() if len(name) >= 4]
    rows = unit_rows((found.weights - found.weights.mean(axis=0)).astype(np.float32))
    bark, bow_wow, opera = (rows[names.index(name)] for name in ("Bark", "Bow-wow", "Opera"))
    assert bark @ bow_wow > 0.3 > bark @ opera


def test_a_direction_is_where_the_score_of_its_class_grows():
    rng = np.random.default_rng(0)
    matrix = np.linalg.qr(rng.standard_normal((40, 8)))[0]  # features of 40 numbers that vary in 8 dimensions
    classifier = PublishedClassifier(np.eye(5, dtype=np.float32), rng.standard_normal((5, 40)))
    embeddings = rng.standard_normal((2000, 8))
    scores = embeddings @ matrix.T @ classifier.weights.T  # [2000, 5]
    gradient = unit_rows(np.linalg.lstsq(embeddings, scores, rcond=None)[0].T)
    wanted = unit_rows(gradient - gradient.mean(axis=0))
    np.testing.assert_allclose(classifier.under(3 * matrix).directions, wanted, atol=1e-5)


def planted():
    """Clips of twelve classes, of which three are unseen, whose texts say nothing about the seen ones; and published
    classes among which are the unseen ones.
    """
    rng = np.random.default_rng(1)
    names, seen = [f"class {i}" for i in range(12)], np.arange(12) < 9
    texts = unit_rows(rng.standard_normal((12, 40)).astype(np.float32))
    centres = unit_rows(rng.standard_normal((12, 16)).astype(np.float32))
    labels = np.repeat(np.arange(12), 20)
    embeddings = (centres[labels] + 0.2 * rng.standard_normal((240, 16))).astype(np.float32)
    others = rng.standard_normal((30, 56)).astype(np.float32)
    published = Anchors(
        unit_rows(np.concatenate([texts[9:], others[:, :40]])), unit_rows(np.concatenate([centres[9:], others[:, 40:]]))
    )
    return ClassSide(names, seen, texts), published, embeddings, labels


def test_published_classes_say_where_unseen_ones_are():
    classes, published, embeddings, labels = planted()
    train = embeddings[labels < 9], labels[labels < 9]
    without = prototype_map(classes, train, 0.3)
    fitted = prototype_map(replace(classes, published=published), train, 0.3)
    accuracies = [zsl(each.scores(embeddings), labels, classes.seen) for each in (without, fitted)]
    assert accuracies[0] < 0.5 < 0.8 < accuracies[1]  # chance: 1/3
    # With attributes that say nothing, half of the prediction is still the text's.
    attributes = unit_rows(np.random.default_rng(2).standard_normal((12, 10)).astype(np.float32))
    both = replace(classes, published=published, attributes=attributes)
    assert zsl(prototype_map(both, train, 0.3).scores(embeddings), labels, classes.seen) > 0.55


def test_the_fewer_seen_classes_teach_what_attributes_mean_the_more_the_text_counts():
    """Random attributes draw an unseen class away from where its text places it, and less so with few seen classes."""
    classes, published, embeddings, labels = planted()
    attributes = unit_rows(np.random.default_rng(2).standard_normal((12, 10)).astype(np.float32))
    both = replace(classes, published=published, attributes=attributes)

    def nearness(n_seen: int) -> float:
        train = embeddings[labels < n_seen], labels[labels < n_seen]
        by_text, drawn = (prototype_map(each, train, 0.3) for each in (replace(both, attributes=None), both))
        return float((by_text.targets[9:] * drawn.targets[9:]).sum(axis=1).mean())

    assert nearness(3) > 0.97 > 0.94 > nearness(9)


def test_published_classes_teach_what_attributes_mean():
    """40 published classes, whose places follow their attributes, tell what three seen classes cannot."""
    classes, _, embeddings, labels = planted()
    rng = np.random.default_rng(4)
    known = rng.standard_normal((52, 10)).astype(np.float32)
    places = unit_rows(known @ rng.standard_normal((10, 16)).astype(np.float32))
    embeddings = (places[labels] + 0.1 * rng.standard_normal(embeddings.shape)).astype(np.float32)
    train = embeddings[labels < 3], labels[labels < 3]
    others = Anchors(unit_rows(rng.standard_normal((40, 40)).astype(np.float32)), places[12:])
    alone = replace(classes, published=others, attributes=unit_rows(known[:12]))
    taught = replace(alone, sounds=Anchors(unit_rows(known[12:]), places[12:]))
    accuracies = [
        zsl(prototype_map(each, train, 1.0).scores(embeddings), labels, classes.seen) for each in (alone, taught)
    ]
    assert accuracies[0] < 0.7 < 0.95 < accuracies[1]


def test_the_command_makes_use_of_the_classifier_and_says_when_there_is_none(weights, recordings, tmp_path, capsys):
    from training.run import main

    bare = published_yamnet(seed=3, scaled=False).state_dict()
    torch.save({name: value for name, value in bare.items() if "classifier" not in name}, tmp_path / "bare.pt")
    maps = []
    for name, init in (("with", weights), ("without", tmp_path / "bare.pt")):
        line = f"--dataset folder --data-dir {recordings} --network yamnet-audioset --init {init} --unseen clicks"
        assert main([*line.split(), "--out", str(tmp_path / name), "--cache-dir", str(tmp_path / "cache")]) == 0
        said = " ".join(capsys.readouterr().err.split())
        assert ("these weights have no classifier" in said) == (name == "without")
        assert ("521 classes of AudioSet" in said) == (name == "with")
        maps.append(read_zeroshot(tmp_path / name / "zeroshot.npz"))
    np.testing.assert_allclose(maps[0].mean, maps[1].mean, atol=1e-6)
    assert np.abs(maps[0].text_projection - maps[1].text_projection).max() > 0.01
