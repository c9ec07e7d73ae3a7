"""Measure the search in a large index: recall, time, memory, and how long the index takes to make and to open.

    python -m benchmarks.search sounds.parquet --bundle bundles/NAME --rows 1000000

The rows are drawn around the embeddings in sounds.parquet: each lies somewhere between one of them and one of its
nearest others, with noise as long as half the distance of the two. Queries are drawn in the same way, and are not among
the rows. Recall is compared with an exact search over all rows in float32.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow
import tyro
from numpy.typing import NDArray
from pyarrow import parquet

from benchmarks.host import resident_mb
from benchmarks.inputs import check_range
from benchmarks.study import Study, TextTable, digits
from benchmarks.turns import percentiles
from serving.bulk.embedding_file import EmbeddingFile, is_heard
from serving.bulk.parquet_rows import GROUP_ROWS
from serving.bundle import open_bundle
from serving.bundle_files import ZEROSHOT
from serving.command_line import run_command, say
from serving.errors import UsageError
from serving.search.phrases import Phrases
from serving.search.query import Query, make_query
from serving.search.scores import scorer
from serving.search.search_index import SearchIndex
from serving.zeroshot import ZeroShot, unit_rows
from serving.zeroshot_file import parse_zeroshot

NEIGHBOURS = 10  # of a real embedding, between which and it a row may lie
NOISE = 0.5  # length of the noise, in distances between the two
ROWS_A_FILE = 600  # windows of a recording of ten minutes
OPENED = 5  # times
WARM_UP = 50  # queries
CHECKED = 50  # queries by words that are compared with the exact search, which takes most of a second for each


@dataclass(frozen=True)
class Options:
    """Measure recall, time and memory of the search in an index of synthetic rows around real embeddings."""

    sounds: Annotated[Path, tyro.conf.Positional]
    """Parquet file of real embeddings that serving.embed wrote"""
    bundle: Path
    """folder of the bundle that embedded them; its classes are the words of the queries"""
    rows: int = 1_000_000
    """rows of the index"""
    queries: int = 1000
    """queries by sound; as many are asked with the classes' names, and with two of them and one unwanted"""
    seed: int = 0
    """of the rows and the queries"""
    out: Path = Path("runs/search")
    """folder for search.json, .csv and .md, which are replaced"""


@dataclass(frozen=True)
class SearchRow:
    """One kind of query.

    recall   share of the exact ten best rows that were found
    """

    kind: str
    queries: int
    recall: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class SyntheticRows:
    """Draws rows around real embeddings [n, size] float32."""

    def __init__(self, real: NDArray[np.float32], rng: np.random.Generator):
        self._real, self._rng = real, rng
        unit = unit_rows(real)
        similar = unit @ unit.T
        np.fill_diagonal(similar, -np.inf)
        count = min(NEIGHBOURS, len(real) - 1)
        self._near = np.argpartition(-similar, count - 1, axis=1)[:, :count]

    def draw(self, n: int) -> NDArray[np.float32]:
        """[n, size] float32."""
        rng = self._rng
        first = rng.integers(len(self._real), size=n)
        second = self._near[first, rng.integers(self._near.shape[1], size=n)]
        step = self._real[second] - self._real[first]
        noise = rng.standard_normal(step.shape, np.float32) / np.sqrt(step.shape[1])
        length = np.linalg.norm(step, axis=1, keepdims=True)
        return self._real[first] + rng.random((n, 1), np.float32) * step + NOISE * length * noise


def write_sounds(path: Path, synthetic: SyntheticRows, n_rows: int, space: str, size: int) -> None:
    """Write a Parquet file as `serving.embed` does, with the columns that an index needs."""
    schema = pyarrow.schema(
        [
            ("path", pyarrow.string()),
            ("start_s", pyarrow.float64()),
            ("duration_s", pyarrow.float64()),
            ("embedding", pyarrow.list_(pyarrow.float32(), size)),
            ("embedding_space", pyarrow.string()),
        ]
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, n_rows, GROUP_ROWS):
            numbers = np.arange(first, min(n_rows, first + GROUP_ROWS))
            rows = synthetic.draw(len(numbers))
            columns = [
                pyarrow.array([f"site-{i // 60_000:03d}/{i // ROWS_A_FILE:08d}.flac" for i in numbers.tolist()]),
                pyarrow.array(0.96 * (numbers % ROWS_A_FILE)),
                pyarrow.array(np.full(len(numbers), 0.96)),
                pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), size),
                pyarrow.array([space] * len(numbers)),
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))


def make_queries(
    space: str, words: ZeroShot, synthetic: SyntheticRows, n: int, rng: np.random.Generator
) -> dict[str, list[Query]]:
    """Queries by kind."""
    names = words.class_names

    def some(count: int) -> Phrases:
        return Phrases(words, words.choose([names[i] for i in rng.choice(len(names), count, replace=False)]))

    queries = {
        "sound": [make_query(space, words, row, None) for row in synthetic.draw(n)],
        "words": [make_query(space, words, None, some(1)) for _ in range(n)],
    }
    if len(names) >= 3:
        queries["words, and, not"] = [make_query(space, words, None, some(3), 1) for _ in range(n)]
    return queries


def time_queries(index: SearchIndex, queries: Sequence[Query]) -> tuple[list[set[int]], NDArray[np.int64]]:
    """The rows found by each query, and how long each took in nanoseconds."""
    for query in queries[:WARM_UP]:
        index.search(query)
    found, durations = [], []
    for query in queries:
        started = time.perf_counter_ns()
        result = index.search(query)
        durations.append(time.perf_counter_ns() - started)
        found.append({each.row for each in result})
    return found, np.array(durations)


def exact_rows(
    sounds: Path, score: Callable[[NDArray[np.float32]], NDArray[np.float32]], top: int = 10
) -> list[set[int]]:
    """The rows with the largest scores by each query, of all in the file. score: [n, size] -> [n, n_queries]."""
    best_scores, best_rows, first = None, None, 0
    for _, rows in EmbeddingFile(sounds).batches(()):
        scores = score(rows).T  # [n_queries, n]
        numbers = np.broadcast_to(np.arange(first, first + len(rows)), scores.shape)
        if best_scores is not None and best_rows is not None:
            scores, numbers = np.hstack([best_scores, scores]), np.hstack([best_rows, numbers])
        places = np.argpartition(-scores, top - 1, axis=1)[:, :top]
        best_scores, best_rows = np.take_along_axis(scores, places, 1), np.take_along_axis(numbers, places, 1)
        first += len(rows)
    assert best_rows is not None
    return [set(rows) for rows in best_rows.tolist()]


def exact_answers(index: SearchIndex, sounds: Path, queries: Sequence[Query]) -> list[set[int]]:
    """The ten best rows by the scores of `serving.search.scores`, over all rows of the Parquet file.

    returns   for each query, of queries by words for the first CHECKED
    """
    if queries[0].phrases is None:  # all at once: a product of matrices
        asked = np.stack([query.sound - query.mean for query in queries if query.sound is not None])
        return exact_rows(sounds, lambda rows: unit_rows(rows - queries[0].mean) @ unit_rows(asked).T)
    queries = queries[:CHECKED]
    scorers = [scorer(query, index.sample) for query in queries]

    def score(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([score_of(query.scores(rows)) for query, score_of in zip(queries, scorers, strict=True)], 1)

    return exact_rows(sounds, score)


def build(sounds: Path, bundle: Path, out: Path) -> dict[str, Any]:
    """Make the index in a process of its own: the command's JSON, and the process's largest memory."""
    command = [sys.executable, "-m", "serving.index", str(sounds), "--bundle", str(bundle), "--out", str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UsageError("python -m serving.index refused the rows; its error is above")
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return json.loads(done.stdout.splitlines()[-1]) | {"peak_mb": round(peak_kib * 1024 / 1e6, 1)}


def open_times_ms(folder: Path) -> Iterator[float]:
    """How long the index takes to open, each time."""
    for _ in range(OPENED):
        started = time.perf_counter()
        SearchIndex.open(folder)
        yield round(1000 * (time.perf_counter() - started), 2)


def measure(options: Options) -> dict[str, Any]:
    """Make the rows and the index, search it, write the files, and return what is printed as JSON."""
    check_range("--rows", options.rows, 100, 10**8)
    check_range("--queries", options.queries, 1, 10**6)
    real_file = EmbeddingFile(options.sounds)
    bundle = open_bundle(options.bundle)
    if bundle.manifest.embedding_space != real_file.space:
        raise UsageError(f"{options.sounds}: was not embedded with {options.bundle}; embed it again with that bundle")
    words = parse_zeroshot(bundle.read(ZEROSHOT), str(options.bundle))
    study = Study("search", options.out)
    real = np.concatenate([rows[is_heard(batch, rows)] for batch, rows in real_file.batches(("level_dbfs",))])
    if len(real) < 2:
        raise UsageError(f"{options.sounds}: has {len(real)} rows; wanted 2 or more")
    rng = np.random.default_rng(options.seed)
    synthetic = SyntheticRows(real, rng)
    with tempfile.TemporaryDirectory(prefix="unheard-search-", dir=options.out) as folder:
        sounds, out = Path(folder) / "sounds.parquet", Path(folder) / "sounds.index"
        say(f"drawing {options.rows} rows around {len(real)} embeddings")
        write_sounds(sounds, synthetic, options.rows, real_file.space, real_file.size)
        built = build(sounds, options.bundle, out)
        opened = list(open_times_ms(out))
        before = _resident_mb()
        index = SearchIndex.open(out)
        queries = make_queries(real_file.space, words, synthetic, options.queries, rng)
        answers = {kind: time_queries(index, asked) for kind, asked in queries.items()}
        grown = _resident_mb() - before
        say("comparing with the exact search")
        rows = [
            SearchRow(kind, len(found), recall(found, exact_answers(index, sounds, queries[kind])), *_ms(durations))
            for kind, (found, durations) in answers.items()
        ]
    record = study.record(
        real_embeddings=len(real),
        rows_of_index=options.rows,
        built=built | {"rows_per_s": round(options.rows / built["seconds"])},
        open_ms=opened,
        resident_mb=round(grown, 1),
        rows=[asdict(row) for row in rows],
    )
    notes = [
        f"{options.rows} rows of {real_file.size} numbers, drawn around {len(real)} real embeddings; ten results",
        f"index: {built['bytes'] / 1e6:.0f} MB on disk, made in {built['seconds']:.0f} s with {built['peak_mb']:.0f} "
        f"MB of memory, opened in {min(opened):.1f} to {max(opened):.1f} ms; the searches brought {grown:.0f} MB into "
        "memory",
        f"one query at a time, after {WARM_UP} that do not count; recall against an exact search in float32, by words "
        f"of the first {CHECKED} queries",
    ]
    study.write(record, rows, [search_table(rows)], notes)
    return record


def _ms(durations: NDArray[np.int64]) -> tuple[float, float, float]:
    found = percentiles(durations)
    return found.p50_ms, found.p95_ms, found.p99_ms


def _resident_mb() -> float:
    return resident_mb(os.getpid()) or 0.0


def recall(found: Sequence[set[int]], exact: Sequence[set[int]]) -> float:
    """The share of the exact rows that were found, of as many queries as `exact` has."""
    return float(np.mean([len(rows & best) / len(best) for rows, best in zip(found, exact, strict=False)]))


def search_table(rows: Sequence[SearchRow]) -> TextTable:
    """Recall and times of each kind of query."""
    head = ("query", "recall of 10", "p50 ms", "p95 ms", "p99 ms")
    lines = [[row.kind, f"{row.recall:.4f}", *map(digits, (row.p50_ms, row.p95_ms, row.p99_ms))] for row in rows]
    return TextTable("search", head, lines)


main = partial(run_command, Options, measure, "python -m benchmarks.search")

if __name__ == "__main__":
    raise SystemExit(main())
