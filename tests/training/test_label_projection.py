"""Labels that are typed later: the words of the lexicon say where they belong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from serving.zeroshot import ZeroShot, unit_rows
from training.label_projection import Words
from training.lexicon import load_lexicon
from training.networks import TextHead
from training.prototype_map import ClassSide
from training.zeroshot_maps import fit_zeroshot, text_zeroshot

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
    return replace(classes, words=Words(texts[10:150], attributes[10:150])), (sounds, labels), texts[150:], places[150:]


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
    alone, taught = (text_zeroshot(each, head, train) for each in (replace(classes, words=None), classes))
    assert nearness(taught, typed, places) > nearness(alone, typed, places) + 0.3
    np.testing.assert_array_equal(taught.targets, alone.targets)


def test_the_lexicon_has_a_vector_and_the_classes_attributes_for_each_word():
    everyday = load_lexicon("glove", "description", benchmark_classes=False)
    every = load_lexicon("glove", "description", benchmark_classes=True)
    assert len(every.texts) == len(every.attributes) > len(everyday.texts) > 400
    words = everyday.words(["high", "hissing", "short"], np.zeros(50, np.float32), np.zeros(3, np.float32))
    assert words is None  # too few of the lexicon's attributes
    columns = sorted({name for own in every.attributes for name in own})
    words = everyday.words(columns, every.texts.mean(axis=0), np.zeros(len(columns), np.float32))
    for rows in (words.vectors, words.attributes):
        assert np.isfinite(rows).all()
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_an_encoder_without_any_of_the_words_has_no_lexicon(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("2 3\nqqq 1 0 0\nzzz 0 1 0\n")
    assert load_lexicon(f"word2vec:{path}", "description", benchmark_classes=True) is None
