"""The attributes of the vocabulary's sounds: those of its properties, by the names that classes have."""

import numpy as np

from training.data.class_attributes import attribute_columns, built_in_attributes
from training.synthesis.vocabulary import Qualities, draw_qualities
from training.synthesis.vocabulary_attributes import NAMES, attributes_of, sound_attributes

BUZZ = Qualities(kind="motor", pitch="high", course="swelling", level="quiet", rough=True)


def built_in_columns() -> list[str]:
    known = built_in_attributes()
    return attribute_columns(known.values())


def test_every_name_is_one_of_the_classes_attributes():
    assert set(built_in_columns()) >= NAMES


def test_of_two_values_the_larger_counts():
    got = attributes_of(BUZZ)
    assert got["continuous"] == 10  # a motor says 10, "swelling" says 9
    assert (got["swelling"], got["high"], got["loud"]) == (10, 9, 2)
    assert "rough" not in got  # of a tone alone


def test_each_property_shows_in_the_attributes():
    drawn = [draw_qualities(np.random.default_rng(seed))[0] for seed in range(300)]
    different = {(each.kind, each.pitch, each.course, each.level, each.rough and each.kind == "tone") for each in drawn}
    assert len({tuple(sorted(attributes_of(each).items())) for each in drawn}) == len(different)


def test_columns_follow_the_classes_and_too_few_shared_names_give_none():
    columns = built_in_columns()
    rows = sound_attributes([BUZZ], columns)
    assert rows.shape == (1, len(columns))
    assert rows[0, columns.index("high")] == np.float32(0.9)
    assert rows[0, columns.index("bird")] == 0
    assert sound_attributes([BUZZ], ["shrill", "loud"]) is None
