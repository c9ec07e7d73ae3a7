"""What a ranking says beside its probabilities: whether the sound is any of the labels."""

import numpy as np

from serving.ranking import rank_embedding
from serving.zeroshot import ZeroShot

LOUD = -10.0


def small_map(threshold: float | None, offset: float = 0.0) -> ZeroShot:
    """Two classes along the first two axes; the first is seen."""
    identity = np.eye(3, dtype=np.float32)
    return ZeroShot(
        np.zeros(3, np.float32), identity, ["dog", "rain"], identity[:2], np.array([True, False]), 10.0,
        offset=offset, threshold=threshold,
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


def test_silence_is_none_of_these_and_without_a_threshold_only_silence_is():
    near = embedding(1.0, 0.0, 0.0)
    assert rank_embedding(small_map(0.5), near, -90.0, {}).none_of_these
    assert rank_embedding(small_map(None), near, -90.0, {}).none_of_these
    assert not rank_embedding(small_map(None), embedding(0.0, 0.0, 1.0), LOUD, {}).none_of_these
