"""Where the words of a label that is typed later belong: regression from texts to embeddings.

The seen classes are a few dozen texts, and a network's text head has learned those of their descriptions alone. So
sounds whose attributes are written down (training.lexicon) take part: each stands where its attributes place it, and
its name is the text. A label then belongs near the sounds whose names mean something similar.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.zeroshot import unit_rows
from training.regression import Anchors

HEAD_SHARE = 0.5  # of a text head's projection beside the regression: docs/results/labels.md


@dataclass(frozen=True)
class Words:
    """Described sounds beside the classes of a data set, all centred on the seen classes, as unit rows.

    columns           the names of the attributes
    vectors           [n, text_size] float32: of the names
    attributes        [n, n_columns] float32
    class_attributes  [C, n_columns] float32: of the classes
    sounds            sounds that teach what these attributes mean beside the seen classes; None: there are none
    """

    columns: Sequence[str]
    vectors: NDArray[np.float32]
    attributes: NDArray[np.float32]
    class_attributes: NDArray[np.float32]
    sounds: Anchors | None = None

    def places(self, attribute_projection: NDArray[np.float32]) -> Anchors:
        """The words' vectors, and where their attributes are by attribute_projection [n_columns, D]."""
        return Anchors(self.vectors, unit_rows(self.attributes @ attribute_projection))


def with_head(regressed: NDArray[np.float32], head: NDArray[np.float32], words: Words) -> NDArray[np.float32]:
    """The sum of a regression and a text head's projection, both [text_size, D], at HEAD_SHARE.

    Both are scaled so that they give the words' vectors a mean length of 1.
    """
    mean_lengths = [np.linalg.norm(words.vectors @ part, axis=1).mean() for part in (regressed, head)]
    return regressed / mean_lengths[0] + HEAD_SHARE * head / mean_lengths[1]
