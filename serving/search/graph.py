"""USearch's graph of unit vectors, with one setting for those that make it and those that search it.

USearch is imported where it is needed, because the server runs without it when it has no index.
"""

from typing import TYPE_CHECKING

from serving.errors import UsageError

if TYPE_CHECKING:
    from usearch.index import Index

# Measured in docs/results/search.md.
CONNECTIVITY = 16  # neighbours of a vector
EXPANSION_ADD = 128  # candidates for them
DTYPE = "f16"  # of the stored vectors


def check_usearch_installed() -> None:
    """Import USearch. UsageError: it is not installed."""
    try:
        import usearch.index  # noqa: F401
    except ImportError as error:
        raise UsageError("search needs USearch, which is not installed: pip install 'unheard[search]'") from error


def new_graph(size: int, can_get: bool) -> "Index":
    """An empty graph of vectors [size] with the inner product as similarity.

    can_get   vectors can be read from it by their keys
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
        enable_key_lookups=can_get,
    )
