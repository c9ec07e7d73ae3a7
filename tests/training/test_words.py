"""Labels that are typed later: the words of the lexicon say where they belong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from serving.zeroshot import ZeroShot, unit_rows
from serving.zeroshot.label_lists import ESC50
from training.data.class_attributes import attribute_rows, choose_attributes
from training.lexicon import load_lexicon
from training.networks import TextHead
from training.prototype_map import ClassSide
from training.text_encoders import text_encoder
from training.words import Words
from training.zeroshot_maps import fit_zeroshot, head_zeroshot, text_vectors, text_zeroshot

N_ATTRIBUTES, TEXT_SIZE, SIZE = 6, 40, 128


@pytest.fixture
def planted():
    """Classes whose sounds follow their attributes, which their texts tell linearly; and words of the same kind."""
    rng = np.random.default_rng(3)
    attributes = unit_rows(rng.standard_normal((170, N_ATTRIBUTES)).astype(np.float32))
    texts = unit_rows(attributes @ rng.standard_normal((N_ATTRIBUTES, TEXT_SIZE)).astype(np.float32))
    texts = unit_rows(texts + 0.2 * rng.standard_normal(texts.shape).astype(np.float32))
    places = attributes @ rng.standard_normal((N_ATTRIBUTES, SIZE)).astype(np.float32)
    labels = np.repeat(np.arange(10), 20)
    sounds = (places[labels] + rng.standard_normal((200, SIZE))).astype(np.float32)
    names = [str(number) for number in range(10)]
    classes = ClassSide(names, np.ones(10, bool), texts[:10], attributes[:10])
    words = Words([str(i) for i in range(N_ATTRIBUTES)], texts[10:150], attributes[10:150], attributes[:10])
    return replace(classes, words=words), (sounds, labels), texts[150:], places[150:]


def nearness(fitted: ZeroShot, typed: np.ndarray, places: np.ndarray) -> float:
    """The mean cosine of where typed labels are put and where they belong."""
    labels = [f"typed {number}" for number in range(len(typed))]
    put = replace(fitted, text_mean=np.zeros(TEXT_SIZE, np.float32)).choose(labels, lambda _: typed).targets
    return float((put * unit_rows(places)).sum(axis=1).mean())


def test_words_say_where_a_typed_label_belongs(planted):
    classes, train, typed, places = planted
    alone = fit_zeroshot(replace(classes, words=None), train, kind="prototypes")
    taught = fit_zeroshot(classes, train, kind="prototypes")
    assert nearness(taught, typed, places) > max(0.75, nearness(alone, typed, places) + 0.1)
    np.testing.assert_array_equal(taught.targets, alone.targets)  # the classes have attributes: words move none


def test_words_take_part_beside_a_text_head(planted):
    classes, train, typed, places = planted
    torch.manual_seed(0)
    head = TextHead(10, TEXT_SIZE)
    alone, taught = (text_zeroshot(each, head.weights, 0, train) for each in (replace(classes, words=None), classes))
    assert nearness(taught, typed, places) > nearness(alone, typed, places) + 0.3
    np.testing.assert_array_equal(taught.targets, alone.targets)


def test_the_lexicon_has_a_vector_and_the_classes_attributes_for_each_word():
    everyday = load_lexicon("glove", "description", benchmark_classes=False)
    every = load_lexicon("glove", "description", benchmark_classes=True)
    assert len(every.texts) == len(every.attributes) > len(everyday.texts) > 400
    assert all(len(row) == 50 for row in every.texts)
    assert {"hissing", "voice", "short"} < set(every.columns)


def test_the_lexicon_is_centred_on_the_seen_classes():
    lexicon = load_lexicon("glove", "description", benchmark_classes=False)
    texts = lexicon.texts[:4] + np.float32(0.1)
    seen = np.array([True, True, True, False])
    words = lexicon.words(texts, seen, lexicon.attributes[:4])
    rows = attribute_rows(lexicon.attributes, lexicon.columns)
    np.testing.assert_allclose(words.vectors, unit_rows(lexicon.texts - texts[seen].mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(words.attributes, unit_rows(rows - rows[:3].mean(axis=0)), atol=1e-6)
    np.testing.assert_allclose(words.class_attributes, words.attributes[:4], atol=1e-6)


@pytest.mark.parametrize("known", [None, "of other names"])
def test_the_lexicon_says_what_attributes_the_texts_of_classes_mean(known):
    """For classes without attributes, or with attributes of other names than the lexicon's."""
    lexicon = load_lexicon("glove+minilm", "description", benchmark_classes=False)
    true = choose_attributes(ESC50, None)
    texts = text_vectors(ESC50, text_encoder("glove+minilm"))
    others = known and [{"shrill": 10, "plump": index % 10} for index in range(50)]
    every = np.ones(50, bool)
    told = lexicon.words(texts, every, [true[name] for name in ESC50]).class_attributes
    guessed = lexicon.words(texts, every, others).class_attributes
    own = (told * guessed).sum(axis=1)
    others_mean = (told @ guessed.T).sum(axis=1) - own
    assert own.mean() > 0.4
    assert (own > others_mean / 49 + 0.1).mean() > 0.9


def test_words_place_the_unseen_classes_that_have_no_attributes(planted):
    classes, (sounds, labels), _, _ = planted
    unseen = np.arange(10) >= 7
    train = sounds[~unseen[labels]], labels[~unseen[labels]]
    torch.manual_seed(0)
    head = TextHead(7, TEXT_SIZE)
    without = replace(classes, seen=~unseen, attributes=None)
    fitted = text_zeroshot(without, head.weights, 0, train)
    assert not fitted.given_targets[unseen].any()
    means = np.stack([sounds[labels == label].mean(axis=0) for label in np.flatnonzero(unseen)]) - fitted.mean
    assert (fitted.targets[unseen] * unit_rows(means)).sum(axis=1).mean() > 0.6
    assert fitted.offset != 0
    by_head = head_zeroshot(replace(without, words=None), head)
    assert by_head.given_targets is None
    assert by_head.offset == 0


def test_an_encoder_without_any_of_the_words_has_no_lexicon(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("2 3\nqqq 1 0 0\nzzz 0 1 0\n")
    assert load_lexicon(f"word2vec:{path}", "description", benchmark_classes=True) is None
