"""The lexicon: sounds whose attributes are written down, and which need not be in a data set.

    frying = {fire = 3, metal = 3, indoors = 10, high = 10, hissing = 9, noisy = 10, continuous = 10}

Their names and attributes teach the map where the words of a label belong (training.words). sounds.toml has
everyday sounds, attributes.toml the classes of ESC-50 and FSC22.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from training.data.class_attributes import attribute_columns, attribute_rows, built_in_attributes, have_half
from training.regression import regression
from training.text_encoders import known_vectors, text_encoder
from training.words import Words
from training.zeroshot_maps import centred_unit_rows, text_vectors

TEXT_STRENGTH = 1.0  # lambda of the regression from texts to attributes


@dataclass(frozen=True)
class Lexicon:
    """Sounds that a text encoder has words for.

    texts       [n, text_size] float32, as the classes' texts are encoded
    attributes  of each, in tenths
    """

    texts: NDArray[np.float32]
    attributes: tuple[Mapping[str, int], ...]

    def words(
        self, texts: NDArray[np.float32], seen: NDArray[np.bool_], known: Sequence[Mapping[str, int]] | None
    ) -> Words:
        """The lexicon beside a data set's classes.

        texts  [C, text_size] float32 and seen [C]: of the classes
        known  the classes' attributes, in tenths; if they have fewer than half of the lexicon's names, or are None,
               the lexicon says what attributes the classes' texts mean
        """
        columns = self.columns
        rows = attribute_rows(self.attributes, columns)
        if known is not None and have_half(attribute_columns(known), columns):
            of_classes = attribute_rows(known, columns)
        else:
            of_classes = self.guess(texts, columns)
        text_mean, mean = texts[seen].mean(axis=0), of_classes[seen].mean(axis=0)
        centred = centred_unit_rows(rows, mean), centred_unit_rows(of_classes, mean)
        return Words(columns, centred_unit_rows(self.texts, text_mean), *centred)

    def guess(self, texts: NDArray[np.float32], columns: Sequence[str]) -> NDArray[np.float32]:
        """The attributes that texts [n, text_size] mean: [n, n_columns] float32; 0 where the lexicon lacks a name."""
        rows = attribute_rows(self.attributes, columns)
        text_mean, row_mean = self.texts.mean(axis=0), rows.mean(axis=0)
        by_text = regression(centred_unit_rows(self.texts, text_mean), rows - row_mean, TEXT_STRENGTH)
        return centred_unit_rows(texts, text_mean) @ by_text + row_mean

    @cached_property
    def columns(self) -> list[str]:
        """The names of the attributes."""
        return attribute_columns(self.attributes)


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
