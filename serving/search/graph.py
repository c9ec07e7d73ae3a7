"""USearch's graph of vectors, with one setting for those that make it and those that search it.

A row's vector is its embedding less the map's mean, as a unit vector, and one number more: how much the bundle's
classes claim it (`ZeroShot.claims`), less a mean of that. So the product with (direction of a phrase, -1) is nearly the
score of `serving.search.phrases`, and that with (the unit vector of a sound, 0) is the cosine.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

# ONNX Runtime before USearch: the other way round its import ends the process (onnxruntime 1.31, usearch 2.26).
from serving.backends import onnxruntime_library  # noqa: F401
from serving.errors import UsageError
from serving.zeroshot import unit_rows

if TYPE_CHECKING:
    from usearch.index import Index

# Measured in docs/results/search.md.
CONNECTIVITY = 16  # neighbours of a vector
EXPANSION_ADD = 64  # candidates for them
DTYPE = "f16"  # of the stored vectors


def check_usearch_installed() -> None:
    """Import USearch. UsageError: it is not installed."""
    try:
        import usearch.index  # noqa: F401
    except ImportError as error:
        raise UsageError("search needs USearch, which is not installed: pip install 'unheard[search]'") from error


def new_graph(size: int) -> "Index":
    """An empty graph of the vectors of embeddings [size], with the inner product as similarity.

    errors    UsageError: USearch is not installed
    """
    check_usearch_installed()
    from usearch.index import Index

    return Index(
        ndim=size + 1,
        metric="ip",
        dtype=DTYPE,
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        enable_key_lookups=False,  # of vectors by their keys, for which opening would read the whole file
    )


def vectors_of(embeddings: NDArray[np.float32], claims: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors [n, size + 1] of embeddings [n, size], less the mean, and of their claims [n]."""
    return np.hstack([unit_rows(embeddings), claims[:, None]])
