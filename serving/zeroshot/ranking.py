"""Ranked labels, and whether they mean anything: similarity, level of the sound, unknown words in the labels."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from serving.audio import is_silent
from serving.zeroshot import ZeroShot


class Ranking(list[tuple[str, float]]):
    """A list of (label, probability) pairs, most probable first.

    The probabilities sum to 1 over the labels, whether or not the sound is one of them. `none_of_these` says that it
    is not.

    level_dbfs     peak level of the sound, see `serving.audio.level_dbfs`
    unknown_words  label -> the words that the text model does not know, for labels with other, known words
    similarities   of the sound to each label, in the order of the list: see `ZeroShot.similarities`
    threshold      similarity below which a sound is not a label; None: the bundle has none
    noise          whether the sound is even noise, which is none of the labels, see `ZeroShot.is_noise`
    """

    def __init__(
        self,
        pairs: Iterable[tuple[str, float]],
        level_dbfs: float,
        unknown_words: dict[str, list[str]],
        similarities: Iterable[float],
        threshold: float | None,
        noise: bool = False,
    ):
        super().__init__(pairs)
        self.level_dbfs = level_dbfs
        self.unknown_words = unknown_words
        self.similarities = list(similarities)
        self.threshold = threshold
        self.noise = noise

    @property
    def silent(self) -> bool:
        """Whether the sound is below `serving.audio.SILENT_DBFS`, so that the ranking has no meaning."""
        return is_silent(self.level_dbfs)

    @property
    def none_of_these(self) -> bool:
        """Whether the sound is none of the labels: it is silent or noise, or no similarity reaches the threshold."""
        unlike_all = self.threshold is not None and max(self.similarities) < self.threshold
        return self.silent or self.noise or unlike_all


def rank_embedding(
    zeroshot: ZeroShot,
    embedding: NDArray[np.float32],
    level_dbfs: float,
    unknown_words: dict[str, list[str]],
    offset: float | None = None,
) -> Ranking:
    """Rank the classes of a map for one embedding [128] of a whole recording.

    level_dbfs, unknown_words   as in `Ranking`
    offset                      as in `ZeroShot.rank`; it does not change the similarities
    """
    pairs = zeroshot.rank(embedding, offset=offset)
    similarity = dict(zip(zeroshot.class_names, zeroshot.similarities(embedding[None])[0].tolist(), strict=True))
    similarities = [similarity[label] for label, _ in pairs]
    noise = bool(zeroshot.is_noise(embedding[None])[0])
    return Ranking(pairs, level_dbfs, unknown_words, similarities, zeroshot.threshold, noise)
