"""A process that opens an index and searches it, for benchmarks.search: how long it takes, and how much memory.

python -m benchmarks.search_process sounds.index < queries.pickle > searched.pickle

queries.pickle is what benchmarks.search made itself: kind -> queries.
"""

import pickle
import sys
import time
from dataclasses import dataclass, replace

import psutil

from serving.search.query import Query
from serving.search.search_index import SearchIndex

OPENED = 5  # times
WARM_UP = 50  # queries of each kind that do not count


@dataclass(frozen=True)
class Memory:
    """MB of 1 000 000 bytes. resident: of the process; mapped: the part of it that is pages of mapped files, which the
    system takes back when it needs memory."""

    resident: float
    mapped: float


@dataclass(frozen=True)
class Searched:
    """What the process found and took.

    open_ms   each time that the index was opened
    memory    after the imports, after the index was opened, and after all queries
    found     kind -> the scores of the rows found by each query
    ns        kind -> how long each query took, in nanoseconds
    cpu_ns    kind -> how long it computed: what remains of that on a busy machine
    """

    open_ms: list[float]
    memory: tuple[Memory, Memory, Memory]
    found: dict[str, list[list[float]]]
    ns: dict[str, list[int]]
    cpu_ns: dict[str, list[int]]


def measure_memory() -> Memory:
    """Of this process."""
    info = psutil.Process().memory_info()
    return Memory(round(info.rss / 1e6, 1), round(getattr(info, "shared", 0) / 1e6, 1))


def open_index(folder: str) -> tuple[SearchIndex, float]:
    """The index, and how many milliseconds it took to open."""
    started = time.perf_counter()
    index = SearchIndex.open(folder)
    return index, round(1000 * (time.perf_counter() - started), 2)


def search_all(folder: str, queries: dict[str, list[Query]]) -> Searched:
    """Open the index, ask all queries one after the other, and open it again OPENED - 1 times."""
    at_start = measure_memory()
    index, first_ms = open_index(folder)
    opened = measure_memory()
    searched = Searched([first_ms], (at_start, opened, opened), {}, {}, {})
    for kind, asked in queries.items():
        for query in asked[:WARM_UP]:
            index.search(query)
        timed = [time_query(index, query) for query in asked]
        searched.found[kind], searched.ns[kind], searched.cpu_ns[kind] = map(list, zip(*timed, strict=True))
    memory = (at_start, opened, measure_memory())
    return replace(searched, memory=memory, open_ms=[first_ms, *(open_index(folder)[1] for _ in range(OPENED - 1))])


def time_query(index: SearchIndex, query: Query) -> tuple[list[float], int, int]:
    """The scores of the rows found, and how many nanoseconds it took and computed."""
    started, cpu_started = time.perf_counter_ns(), time.process_time_ns()
    result = index.search(query)
    took, computed = time.perf_counter_ns() - started, time.process_time_ns() - cpu_started
    return [each.score for each in result], took, computed


if __name__ == "__main__":
    from benchmarks import search_process  # so that what is pickled is not of __main__

    asked = pickle.load(sys.stdin.buffer)
    sys.stdout.buffer.write(pickle.dumps(search_process.search_all(sys.argv[1], asked)))
