"""Compute the next items of a generator in a thread of its own, while the current one is worked on."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(items: Generator[Item], most: int = 2) -> Generator[Item]:
    """Yield the same items, with up to `most` of them computed in advance. Items must not be None."""
    with closing(items), ThreadPoolExecutor(1, "read ahead") as pool:
        waiting = deque(pool.submit(next, items, None) for _ in range(most))
        try:
            while (item := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, items, None))
                yield item
        finally:  # also if the consumer stops early
            pool.shutdown(cancel_futures=True)
