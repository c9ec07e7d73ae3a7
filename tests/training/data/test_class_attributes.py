"""Attributes of classes: where they come from, and what a wrong file is told."""

import numpy as np
import pytest

from serving.errors import UsageError
from serving.zeroshot.label_lists import ESC50, FSC22
from serving.zeroshot.label_text import normalise_label
from training.data.class_attributes import (
    attribute_columns,
    attribute_matrix,
    attributes_of_one,
    built_in_attributes,
    choose_attributes,
)


@pytest.mark.parametrize("classes", [ESC50, FSC22])
def test_each_class_of_the_known_data_sets_has_attributes_of_its_own(classes):
    attributes = choose_attributes(classes, None)
    rows = attribute_matrix(classes, attributes)
    assert rows.shape[0] == len(classes)
    assert rows.min() >= 0
    assert rows.max() <= 1
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    assert apart[~np.eye(len(classes), dtype=bool)].min() > 0.3


def test_everyday_sounds_have_the_attributes_of_the_known_classes_and_are_none_of_these():
    everyday, every = built_in_attributes(benchmark_classes=False), built_in_attributes()
    assert len(everyday) > 400
    benchmark = {normalise_label(name) for name in (*ESC50, *FSC22)}
    assert not benchmark & set(everyday)
    assert set(every) == benchmark | set(everyday)
    used = {attribute for own in everyday.values() for attribute in own}
    assert used <= set(attribute_columns(choose_attributes(ESC50, None).values()))
    assert set(choose_attributes(["frying", "dog"], None)) == {"frying", "dog"}


def test_a_data_set_with_a_class_of_its_own_has_none():
    assert choose_attributes(["dog", "a machine of mine"], None) == {}
    assert choose_attributes(["dog", "cat"], "none") == {}


def test_a_users_file_gives_them_for_other_classes(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("curlew = {tonal = 10, gliding = 8}\n'Wood_Lark' = {tonal = 5, fast = 10}\n")
    attributes = choose_attributes(["curlew", "wood lark"], str(path))
    np.testing.assert_allclose(attribute_matrix(["curlew", "wood lark"], attributes), [[0, 0.8, 1], [1, 0, 0.5]])


def test_an_attribute_of_one_class_alone_is_named_because_it_may_be_mistyped():
    classes = {"rooster": {"brid": 10, "loud": 5}, "crow": {"bird": 10, "loud": 3}, "owl": {"bird": 10, "dark": 0}}
    assert attributes_of_one(classes) == ["brid (rooster)"]


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (None, "cannot be read"),
        ("curlew = ", "cannot be read"),
        ("curlew = 3", "curlew has no attributes"),
        ("curlew = {}", "curlew has no attributes"),
        ("curlew = {tonal = 11}", "tonal is 11; wanted a whole number, 0 to 10"),
        ("curlew = {tonal = 0.5}", "tonal is 0.5"),
        ("curlew = {tonal = true}", "tonal is True"),
        ("lark = {tonal = 5}", "lacks curlew"),
        ("curlew = {tonal = 5}\nCurlew = {tonal = 6}", "curlew, Curlew are the same class; give it once"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, content, wanted):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=wanted) as refused:
        choose_attributes(["curlew"], str(path))
    assert "\n" not in str(refused.value)
