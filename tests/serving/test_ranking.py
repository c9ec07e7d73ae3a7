"""What a ranking says beside its probabilities: whether the sound is any of the labels."""

from dataclasses import replace

import numpy as np
import pytest

from serving.zeroshot import ZeroShot
from serving.zeroshot.ranking import rank_embedding
from serving.zeroshot.zeroshot_file import read_zeroshot, write_zeroshot

LOUD = -10.0


def small_map(threshold: float | None, offset: float = 0.0, balanced: bool = False) -> ZeroShot:
    """Two classes along the first two axes; the first is seen."""
    identity = np.eye(3, dtype=np.float32)
    return ZeroShot(
        np.zeros(3, np.float32), identity, ["dog", "rain"], identity[:2], np.array([True, False]), 10.0,
        offset=offset, balanced=balanced, threshold=threshold,
    )  # fmt: skip


def embedding(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_a_sound_like_no_label_is_none_of_these_whatever_its_probabilities():
    far = embedding(0.2, 0.1, 1.0)
    ranking = rank_embedding(small_map(0.5), far, LOUD, {})
    assert ranking.none_of_these
    assert ranking[0][0] == "dog"
    assert sum(share for _, share in ranking) == 1.0
    assert not rank_embedding(small_map(0.5), embedding(0.9, 0, 0.1), LOUD, {}).none_of_these


def test_one_label_gets_all_of_the_probability_and_is_still_refused():
    ranking = rank_embedding(small_map(0.5).choose(["rain"]), embedding(1.0, 0.1, 0.0), LOUD, {})
    assert list(ranking) == [("rain", 1.0)]
    assert ranking.none_of_these


def test_similarities_are_in_the_order_of_the_ranking_and_do_not_change_with_the_asked_offset():
    plain = rank_embedding(small_map(0.5), embedding(0.8, 0.6, 0.0), LOUD, {})
    assert [label for label, _ in plain] == ["dog", "rain"]
    np.testing.assert_allclose(plain.similarities, [0.8, 0.6], atol=1e-6)
    shifted = rank_embedding(small_map(0.5), embedding(0.8, 0.6, 0.0), LOUD, {}, offset=9.0)
    assert [label for label, _ in shifted] == ["rain", "dog"]
    np.testing.assert_allclose(shifted.similarities, [0.6, 0.8], atol=1e-6)


def test_the_offset_of_the_map_makes_similarities_of_seen_and_unseen_labels_comparable():
    ranking = rank_embedding(small_map(0.5, offset=4.0), embedding(0.8, 0.0, 0.6), LOUD, {})  # 0.4 in cosines
    assert dict(zip([label for label, _ in ranking], ranking.similarities, strict=True))["dog"] == np.float32(
        0.8
    ) - np.float32(0.4)
    assert ranking.none_of_these


def many_labels(n_seen: int, n_unseen: int, balanced: bool = True) -> ZeroShot:
    """Classes that all look the same to the map, so that only the offset tells them apart."""
    seen = np.arange(n_seen + n_unseen) < n_seen
    vectors = np.tile(np.eye(3, dtype=np.float32)[:1], (len(seen), 1))
    names = [f"class {i}" for i in range(len(seen))]
    return replace(small_map(None, 1.0, balanced), class_names=names, class_vectors=vectors, seen=seen)


@pytest.mark.parametrize(("n_seen", "n_unseen"), [(1, 1), (4, 1), (1, 4), (32, 18)])
def test_a_balanced_map_gives_seen_and_unseen_labels_the_same_weight_however_many_they_are(n_seen, n_unseen):
    zeroshot = many_labels(n_seen, n_unseen)
    shares = dict(rank_embedding(zeroshot, embedding(1.0, 0.0, 0.0), LOUD, {}))
    of_seen = sum(shares[name] for name in zeroshot.seen_names)
    assert of_seen == pytest.approx(1 / (1 + np.exp(1)))  # what the offset of 1 says, and nothing else


def test_the_offset_follows_the_chosen_labels():
    zeroshot = many_labels(8, 2)
    assert zeroshot.own_offset == pytest.approx(1 + np.log(4))
    assert zeroshot.choose(["class 0", "class 9"]).own_offset == pytest.approx(1.0)
    assert dict(zeroshot.rank(embedding(1.0, 0.0, 0.0), ["class 0", "class 9"]))["class 0"] == pytest.approx(
        1 / (1 + np.exp(1))
    )
    for of_one_kind in (["class 0", "class 1"], ["class 8", "class 9"]):
        assert zeroshot.choose(of_one_kind).own_offset == 1.0


def test_similarities_do_not_depend_on_the_numbers_of_labels():
    zeroshot, row = many_labels(8, 2), embedding(1.0, 0.0, 0.0)[None]
    np.testing.assert_array_equal(zeroshot.similarities(row)[:, :1], zeroshot.choose(["class 0"]).similarities(row))


def test_the_balance_is_stored_and_a_file_without_it_has_one_offset_for_all_lists(tmp_path):
    for balanced in (True, False):
        path = tmp_path / f"{balanced}.npz"
        write_zeroshot(many_labels(8, 2, balanced), path)
        read = read_zeroshot(path)
        assert read.balanced is balanced
        assert read.own_offset == pytest.approx(1 + np.log(4) if balanced else 1.0)
    with np.load(tmp_path / "False.npz") as stored:
        assert "balanced" not in stored  # as earlier versions wrote it


def test_noise_is_none_of_these_although_it_is_similar_to_a_label(tmp_path):
    noise = np.array([[0.6, 0.0, 0.8]], np.float32)
    known = replace(small_map(0.5), noise=noise, noise_thresholds=np.float32([0.9]))
    write_zeroshot(known, tmp_path / "zeroshot.npz")
    for zeroshot in (known, read_zeroshot(tmp_path / "zeroshot.npz"), known.choose(["dog"])):
        ranking = rank_embedding(zeroshot, embedding(0.62, 0.0, 0.79), LOUD, {})
        assert ranking.noise
        assert ranking.none_of_these
        assert ranking.similarities[0] > 0.5
        near_the_label = rank_embedding(zeroshot, embedding(0.95, 0.0, 0.3), LOUD, {})
        assert not near_the_label.noise
        assert not near_the_label.none_of_these
    np.testing.assert_array_equal(known.none_of_these(np.float32([[0.62, 0, 0.79], [1, 0, 0]])), [True, False])
    assert not rank_embedding(small_map(0.5), embedding(0.62, 0.0, 0.79), LOUD, {}).none_of_these


def test_silence_is_none_of_these_and_without_a_threshold_only_silence_is():
    near = embedding(1.0, 0.0, 0.0)
    assert rank_embedding(small_map(0.5), near, -90.0, {}).none_of_these
    assert rank_embedding(small_map(None), near, -90.0, {}).none_of_these
    assert not rank_embedding(small_map(None), embedding(0.0, 0.0, 1.0), LOUD, {}).none_of_these


def test_a_given_target_places_its_class_and_texts_place_the_others(tmp_path):
    targets = np.array([[0, 0, 1], [0, 0, 0]], np.float32)
    write_zeroshot(replace(small_map(None), given_targets=targets), tmp_path / "zeroshot.npz")
    zeroshot = replace(read_zeroshot(tmp_path / "zeroshot.npz"), text_mean=np.zeros(3, np.float32))
    np.testing.assert_array_equal(zeroshot.targets, [[0, 0, 1], [0, 1, 0]])
    chosen = zeroshot.choose(["a bark", "rain", "Dog"], lambda texts: np.eye(3, dtype=np.float32)[:1])
    np.testing.assert_array_equal(chosen.targets, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert small_map(None).choose(["rain"]).given_targets is None


def test_examples_move_a_class_away_from_its_given_target():
    targets = np.array([[0, 0, 1], [0, 0, 0]], np.float32)
    sums = np.array([[2, 0, 0], [0, 0, 0]], np.float32)
    taught = replace(small_map(None), given_targets=targets, example_sums=sums, prior_weight=2.0)
    np.testing.assert_allclose(taught.targets, [[0.5**0.5, 0, 0.5**0.5], [0, 1, 0]], atol=1e-6)
