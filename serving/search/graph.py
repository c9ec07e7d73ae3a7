"""USearch's graph of vectors, with one setting for those that make it and those that search it.

A row's vector is its embedding less the map's mean, as a unit vector: the product with that of a sound is their cosine.
The graph is for sounds. The rows that are best for words are far from any other row's neighbours: at a million rows it
found 76 % of them among 2048 candidates (docs/results/search.md), so words are compared with all rows.
"""

from typing import TYPE_CHECKING

# ONNX Runtime before USearch: the other way round its import ends the process (onnxruntime 1.31, usearch 2.26).
from serving.backends import onnxruntime_library  # noqa: F401
from serving.errors import UsageError

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
        ndim=size,
        metric="ip",
        dtype=DTYPE,
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
        enable_key_lookups=False,  # of vectors by their keys, for which opening would read the whole file
    )
