"""Phrases as conditions for sounds: how much better a sound fits a phrase than it fits what the bundle knows.

    score = cosine(sound, phrase) - claim(sound)

The claim is the soft maximum of the sound's cosines to the bundle's classes (`ZeroShot.claims`). For a class of the
bundle the score is the logarithm of its probability over the temperature. For other phrases it keeps away sounds that
a class explains better: without the claim, the sounds nearest to an unseen phrase are mostly those of the seen class
whose text is most like it (docs/results/search.md). Where two things are wanted at the same time, the cosine alone
counts, because each of the two claims the sound.

A phrase that means nearly the same as a class ("a dog barks" and the class dog) would lose against that class. So its
target is drawn to the class's: by PULL parts if the cosine of both texts is NEAR or more, not at all below FAR.
"""

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import ZeroShot, unit_rows

FAR, NEAR, PULL = 0.4, 0.6, 4.0


class Phrases:
    """Phrases for one bundle.

    zeroshot  of the bundle, with its own classes
    chosen    the same map, with the phrases as its classes
    """

    def __init__(self, zeroshot: ZeroShot, chosen: ZeroShot):
        self.names = chosen.class_names
        self._known = zeroshot
        alike = chosen.class_vectors @ zeroshot.class_vectors.T  # [n, C]
        nearest = alike.argmax(axis=1)
        parts = PULL * np.clip((alike.max(axis=1) - FAR) / (NEAR - FAR), 0, 1)
        drawn = unit_rows(chosen.targets + parts[:, None] * zeroshot.targets[nearest]).astype(np.float32)
        self._phrases = replace(chosen, given_targets=drawn, example_sums=None)
        # The bundle's classes behind the phrases, so that embeddings are mapped once for both.
        self._all = replace(
            self._phrases,
            class_vectors=np.vstack([chosen.class_vectors, zeroshot.class_vectors]),
            given_targets=np.vstack([drawn, zeroshot.targets]),
        )

    def scores(self, embeddings: NDArray[np.float32], with_claim: NDArray[np.bool_]) -> NDArray[np.float32]:
        """The score of each embedding [n_rows, size] for each phrase: [n_rows, n] float32.

        with_claim  [n]: the claim is subtracted; otherwise the score is the cosine
        """
        if not with_claim.any():
            return self._phrases.cosines(embeddings)
        cosines, of_classes = np.split(self._all.cosines(embeddings), [len(self.names)], axis=1)
        return cosines - self._known.soft_maximum(of_classes)[:, None] * with_claim

    def odds(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores with the claim as odds, 0 and more: how much more likely the phrase is than all classes together.

        Of a class, this is its probability among the classes.
        """
        return np.exp(self._known.sharpness * scores)

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """For each phrase the direction [n, size] along which the cosine of an embedding grows."""
        return self._phrases.directions().astype(np.float32)
