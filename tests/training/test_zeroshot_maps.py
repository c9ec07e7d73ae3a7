"""The closed-form maps: what they compute, and what they are for."""

import tracemalloc
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from serving.zeroshot import ZeroShot, unit_rows
from training.networks import TextHead
from training.prototype_map import ClassSide
from training.regression import centred_anchors
from training.zeroshot_maps import (
    GAMMAS,
    LAMBDAS,
    TEMPERATURES,
    accuracy,
    fit_zeroshot,
    head_zeroshot,
    text_zeroshot,
)

NAMES = [f"class {i}" for i in range(8)]
SEEN = np.arange(8) < 6


@pytest.fixture
def problem():
    """Blurred sounds of six seen classes whose texts resemble each other: train [90, 5], validation [60, 5]."""
    rng = np.random.default_rng(0)
    texts = rng.standard_normal((8, 4)) @ np.diag([3.0, 1.0, 0.5, 0.2])
    vectors = unit_rows(np.asarray(texts - texts[SEEN].mean(axis=0), np.float32))
    mix = rng.standard_normal((4, 5))

    def draw(n: int):
        labels = np.arange(n) % 6
        return (vectors[labels] @ mix + 0.7 * rng.standard_normal((n, 5)) + 2).astype(np.float32), labels

    return vectors, draw(90), draw(60)


def loss(cosines: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    odds = np.exp(temperature * cosines)
    return float(-np.log(odds[np.arange(len(labels)), labels] / odds.sum(axis=1)).mean())


def test_eszsl_is_the_published_formula_at_the_strengths_of_the_least_loss(problem):
    vectors, (train, labels), (others, other_labels) = problem
    fitted = fit_zeroshot(ClassSide(NAMES, SEEN, vectors), (train, labels), (others, other_labels), "eszsl")
    mean = train.mean(axis=0)
    scale = (train - mean).std()
    x, s = (train - mean).astype(np.float64) / scale, vectors[SEEN].astype(np.float64)
    y = np.where(labels[:, None] == np.arange(6), 1.0, -1.0)
    best = (np.inf, 0.0, np.empty(0))
    for gamma, strength in product(GAMMAS, LAMBDAS["eszsl"]):
        sounds, texts = x.T @ x + gamma * np.eye(5), s.T @ s + strength * np.eye(4)
        w = np.linalg.solve(sounds, x.T @ y @ s) @ np.linalg.inv(texts)
        np.testing.assert_allclose(sounds @ w @ texts, x.T @ y @ s, atol=1e-9)  # the normal equation
        mapped = (others - mean) / scale @ w
        cosines = mapped @ s.T / np.linalg.norm(mapped, axis=1, keepdims=True)
        best = min(best, *((loss(cosines, other_labels, t), t, w) for t in TEMPERATURES), key=lambda tried: tried[0])
    _, temperature, w = best
    assert fitted.temperature == pytest.approx(temperature)
    unit = fitted.projection / np.linalg.norm(fitted.projection)
    np.testing.assert_allclose(unit, w / np.linalg.norm(w), atol=1e-5)
    # A test of something: another map than ridge regression's, and one that is chosen by the clips it is judged on.
    ridge = fit_zeroshot(ClassSide(NAMES, SEEN, vectors), (train, labels), (others, other_labels))
    assert np.abs(unit - ridge.projection / np.linalg.norm(ridge.projection)).max() > 0.01


def test_ridge_is_the_regression_on_the_class_vectors(problem):
    vectors, (train, labels), validation = problem
    fitted = fit_zeroshot(ClassSide(NAMES, SEEN, vectors), (train, labels), validation)
    x = (train - train.mean(axis=0)).astype(np.float64)
    strengths = np.array(GAMMAS) * x.std() ** 2
    maps = [np.linalg.solve(x.T @ x + some * np.eye(5), x.T @ vectors[labels]) for some in strengths]
    assert min(np.abs(fitted.projection - w).max() for w in maps) < 1e-5


@pytest.mark.parametrize("kind", ["ridge", "eszsl"])
@pytest.mark.parametrize("validated", [True, False])
def test_a_planted_map_is_recovered_and_ranks_unseen_classes_right(kind, validated):
    """Sounds are a linear function of their class's text, with noise in other directions too."""
    rng = np.random.default_rng(1)
    seen = np.arange(24) < 20
    texts = rng.standard_normal((24, 6)).astype(np.float32)
    vectors = unit_rows(texts - texts[seen].mean(axis=0))
    planted = rng.standard_normal((6, 16))
    labels = np.repeat(np.arange(24), 20)
    sounds = (vectors[labels] @ planted + 0.3 * rng.standard_normal((480, 16))).astype(np.float32)
    known = seen[labels]
    part = np.arange(480) % 4 == 0
    train = (sounds[known & ~part], labels[known & ~part]) if validated else (sounds[known], labels[known])
    validation = (sounds[known & part], labels[known & part]) if validated else None
    fitted = fit_zeroshot(ClassSide([str(i) for i in range(24)], seen, vectors), train, validation, kind)
    mapped = (sounds[~known] - fitted.mean) @ fitted.projection
    assert (unit_rows(mapped) * vectors[labels[~known]]).sum(axis=1).mean() > 0.9
    unseen = [str(i) for i in range(20, 24)]
    assert np.mean(fitted.scores(sounds[~known], unseen).argmax(axis=1) == labels[~known] - 20) > 0.95
    assert accuracy(fitted, sounds[known], labels[known]) > 0.8


@pytest.mark.parametrize("kind", ["prototypes", "ridge"])
@pytest.mark.parametrize("seed", range(6))
def test_classes_of_one_clip_or_a_few_are_fitted(kind, seed, recwarn):
    """As many users have: each class has one to four clips, and none or one of them for validation."""
    rng = np.random.default_rng(seed)
    vectors = unit_rows(rng.standard_normal((6, 8)).astype(np.float32))
    for most in (1, 2, 4):
        labels = np.repeat(np.arange(6), rng.integers(1, most, 6, endpoint=True))
        train = (vectors[labels] + 0.1 * rng.standard_normal((len(labels), 8))).astype(np.float32), labels
        for validation in (None, (vectors, np.arange(6))):
            fitted = fit_zeroshot(ClassSide(NAMES[:6], np.ones(6, bool), vectors), train, validation, kind)
            assert np.isfinite(fitted.temperature)
            assert accuracy(fitted, vectors, np.arange(6)) > 0.8
    assert not recwarn.list


@pytest.fixture
def planted():
    """Sounds that follow the attributes of 24 classes, of which four are unseen, and texts that say nothing."""
    rng = np.random.default_rng(2)
    seen = np.arange(24) < 20
    attributes, vectors = (
        unit_rows(each - each[seen].mean(axis=0)) for each in rng.standard_normal((2, 24, 6)).astype(np.float32)
    )
    labels = np.repeat(np.arange(24), 20)
    sounds = attributes[labels] @ rng.standard_normal((6, 128)) + 0.2 * rng.standard_normal((480, 128)) + 1
    classes = ClassSide([str(i) for i in range(24)], seen, vectors, attributes)
    return classes, sounds.astype(np.float32), labels


def unseen_accuracy(fitted: ZeroShot, sounds: np.ndarray, labels: np.ndarray) -> float:
    heard = labels >= 20
    return float(
        np.mean(fitted.scores(sounds[heard], [str(i) for i in range(20, 24)]).argmax(axis=1) + 20 == labels[heard])
    )


def test_attributes_find_unseen_classes_that_texts_do_not(planted):
    classes, sounds, labels = planted
    train = sounds[labels < 20], labels[labels < 20]
    by_text = fit_zeroshot(replace(classes, attributes=None), train, kind="prototypes")
    assert not by_text.given_targets[20:].any()
    fitted = fit_zeroshot(classes, train, kind="prototypes")
    assert unseen_accuracy(fitted, sounds, labels) > 0.8 > 0.6 > unseen_accuracy(by_text, sounds, labels)


def test_described_sounds_teach_attributes_that_the_seen_classes_lack(planted):
    classes, sounds, labels = planted
    few = labels < 3  # three classes cannot teach six attributes
    train = sounds[few], labels[few]
    rng = np.random.default_rng(5)
    known = rng.random((200, 6)).astype(np.float32)
    to_sounds = np.linalg.lstsq(classes.attributes[labels], sounds - sounds.mean(axis=0), rcond=None)[0]
    described = centred_anchors(known, (known @ to_sounds + rng.standard_normal((200, 128))).astype(np.float32))
    alone = fit_zeroshot(classes, train, kind="prototypes")
    taught = fit_zeroshot(replace(classes, sounds=described), train, kind="prototypes")
    means = np.stack([sounds[labels == c].mean(axis=0) for c in range(20, 24)]) - train[0].mean(axis=0)
    near = {
        name: float((fitted.targets[20:] * unit_rows(means)).sum(axis=1).mean())
        for name, fitted in {"alone": alone, "taught": taught}.items()
    }
    assert near["taught"] > near["alone"] + 0.2, near
    np.testing.assert_array_equal(taught.targets[:3], alone.targets[:3])  # seen classes stand at their means


def test_described_sounds_do_not_choose_the_offset(planted):
    classes, sounds, labels = planted
    train = sounds[labels < 20], labels[labels < 20]
    rng = np.random.default_rng(5)
    noise = centred_anchors(*(rng.standard_normal((50, size)).astype(np.float32) for size in (6, 128)))
    head = TextHead(20, 6)
    alone, taught = (
        text_zeroshot(classes, head.weights, 0, train),
        text_zeroshot(replace(classes, sounds=noise), head.weights, 0, train),
    )
    assert taught.offset == alone.offset != 0
    assert not np.allclose(taught.targets[20:], alone.targets[20:], atol=0.01)


def test_classes_that_a_network_has_learned_choose_a_smaller_offset_than_unheard_ones_need(planted):
    classes, sounds, labels = planted
    train = sounds[labels < 20], labels[labels < 20]
    closed, learned = (
        fit_zeroshot(classes, train, kind="prototypes"),
        text_zeroshot(classes, TextHead(20, 6).weights, 0.1, train),
    )
    assert closed.offset != 0
    assert learned.temperature == closed.temperature
    assert learned.offset - closed.offset == pytest.approx(0.1 * closed.temperature)


def test_a_text_head_with_attributes_ranks_typed_labels_as_the_head_does(planted):
    classes, sounds, labels = planted
    torch.manual_seed(0)
    head = TextHead(20, 6)
    train = sounds[labels < 20], labels[labels < 20]
    fitted = text_zeroshot(classes, head.weights, 0, train)
    assert unseen_accuracy(fitted, sounds, labels) > 0.8
    # Seen classes stand at their means, unseen ones between their attributes' prediction and their text's.
    by_attributes = fit_zeroshot(classes, train, kind="prototypes").targets
    np.testing.assert_allclose(fitted.targets[:20], by_attributes[:20], atol=1e-6)
    by_text = replace(fitted, given_targets=None).targets
    for target, *ends in zip(fitted.targets[20:], by_attributes[20:], by_text[20:], strict=True):
        assert min(target @ end for end in ends) > ends[0] @ ends[1]
    typed = replace(fitted, text_mean=np.zeros(6, np.float32)).choose(["typed"], lambda texts: np.eye(6)[:1])
    direction = head.weights[0]
    np.testing.assert_allclose(typed.targets[0], direction / np.linalg.norm(direction), atol=1e-6)
    alone = head_zeroshot(replace(classes, attributes=None), head)
    assert alone.temperature == pytest.approx(head.scale.item())
    np.testing.assert_allclose(alone.targets, classes.vectors)


def test_the_choice_of_the_temperature_takes_a_few_times_the_memory_of_the_cosines():
    rng, n_clips, n_classes = np.random.default_rng(0), 4000, 80
    vectors = unit_rows(rng.standard_normal((n_classes, 16)).astype(np.float32))
    labels = np.arange(n_clips) % n_classes
    clips = vectors[labels] + 0.5 * rng.standard_normal((n_clips, 16)).astype(np.float32), labels
    classes = ClassSide([f"class {i}" for i in range(n_classes)], np.ones(n_classes, bool), vectors)
    tracemalloc.start()
    try:
        fit_zeroshot(classes, clips, clips)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 8 * n_clips * n_classes  # each of the 60 temperatures at once: more than 100 times
