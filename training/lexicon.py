"""The lexicon: sounds whose attributes are written down, and which need not be in a data set.

    frying = {fire = 3, metal = 3, indoors = 10, high = 10, hissing = 9, noisy = 10, continuous = 10}

Their names and attributes teach the map where the words of a label belong (training.label_projection). sounds.toml has
everyday sounds, attributes.toml the classes of ESC-50 and FSC22.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from training.data.class_attributes import attribute_rows, built_in_attributes, have_half
from training.label_projection import Words
from training.text_encoders import known_vectors, text_encoder
from training.zeroshot_maps import centred_unit_rows, text_vectors


@dataclass(frozen=True)
class Lexicon:
    """Sounds that a text encoder has words for.

    texts       [n, text_size] float32, as the classes' texts are encoded
    attributes  of each, in tenths
    """

    texts: NDArray[np.float32]
    attributes: tuple[Mapping[str, int], ...]

    def words(
        self, columns: Sequence[str], text_mean: NDArray[np.float32], attribute_mean: NDArray[np.float32]
    ) -> Words | None:
        """The lexicon beside a data set's classes, centred as these are.

        columns         names of the classes' attributes
        text_mean       [text_size] and attribute_mean [n_columns]: of the seen classes
        returns         None: the classes have fewer than half of the lexicon's attributes
        """
        if not have_half(columns, {name for own in self.attributes for name in own}):
            return None
        known = attribute_rows(self.attributes, columns)
        return Words(centred_unit_rows(self.texts, text_mean), centred_unit_rows(known, attribute_mean))


@cache
def load_lexicon(encoder: str, class_texts: str, benchmark_classes: bool) -> Lexicon | None:
    """The sounds that an encoder has words for; None: it has none for any.

    encoder            see training.text_encoders;  class_texts: see `text_vectors`
    benchmark_classes  whether the classes of ESC-50 and FSC22 are among them: not where some of these are unseen
    """
    sounds = built_in_attributes(benchmark_classes)
    names = list(sounds)
    kept, texts = known_vectors(names, lambda labels: text_vectors(labels, text_encoder(encoder), class_texts))
    return Lexicon(texts, tuple(sounds[names[row]] for row in kept)) if kept else None
