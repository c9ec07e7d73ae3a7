"""Measure the search in a large index: recall, time, memory, and how long the index takes to make and to open.

    python -m benchmarks.search sounds.parquet --bundle bundles/NAME --rows 1000000

The rows are drawn around the embeddings in sounds.parquet: each lies somewhere between one of them and one of its
nearest others, with noise as long as half the distance of the two. Sounds to look for are drawn in the same way, and
are not among the rows; words are the bundle's classes, and other texts if it has a text model. Recall is compared with
an exact search over all rows in float32. The search runs in a process of its own, whose memory is measured.
"""

import json
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from benchmarks.exact_search import TOP, exact_answers, recall
from benchmarks.host import resident_mb
from benchmarks.inputs import check_range
from benchmarks.search_process import WARM_UP, Searched
from benchmarks.study import Study, TextTable, digits
from benchmarks.synthetic_rows import SyntheticRows, write_sounds
from benchmarks.turns import percentiles
from serving.bulk.embedding_file import EmbeddingFile, is_heard
from serving.command_line import run_command, say
from serving.embedder import Embedder
from serving.errors import UsageError
from serving.search.phrases import Phrases
from serving.search.query import Query, make_query
from serving.search.search_index import SearchIndex

LOOK_S = 0.05  # between two looks at the memory of another process
CHECKED = 100  # queries of each kind that are compared with the exact search
TEXTS = (  # what people might type; none is a class of ESC-50 or FSC22
    "rain on a tin roof",
    "a barking hound",
    "somebody knocks at a door",
    "a motorbike drives past",
    "children laugh in a playground",
    "water drips in a cave",
    "distant church bells at noon",
    "an owl at night",
    "paper is torn",
    "a squeaky toy",
    "blows of a metal hammer",
    "an old steam engine",
    "a person types a letter",
    "a man snores",
    "waves on a beach",
    "a flock of birds in spring",
    "applause in a concert hall",
    "a kettle boils",
    "an ambulance in the street",
    "footsteps on gravel",
)


@dataclass(frozen=True)
class Options:
    """Measure recall, time and memory of the search in an index of synthetic rows around real embeddings."""

    sounds: Annotated[Path, tyro.conf.Positional]
    """Parquet file of real embeddings that serving.embed wrote"""
    bundle: Path
    """folder of the bundle that embedded them; its classes are words of the queries"""
    rows: int = 1_000_000
    """rows of the index, 10 or more; 0: the real ones"""
    queries: int = 200
    """queries of each kind"""
    seed: int = 0
    """of the rows and the queries"""
    out: Path = Path("runs/search")
    """folder for search.json, .csv and .md, which are replaced"""


@dataclass(frozen=True)
class SearchRow:
    """One kind of query.

    recall   share of the exact ten best rows that were found
    cpu_p95_ms   of the time that a query computed
    """

    kind: str
    queries: int
    recall: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_p95_ms: float


def make_queries(
    embedder: Embedder, synthetic: SyntheticRows, n: int, rng: np.random.Generator
) -> tuple[dict[str, list[Query]], Phrases]:
    """Queries by kind, and all their phrases."""
    space, known = embedder.manifest.embedding_space, embedder.zeroshot
    names = known.class_names
    typed = [text for text in TEXTS if embedder.labels.knows_text and not known.has(text)]
    words, sounds = names + typed, synthetic.draw(n)

    def some(texts: list[str], count: int) -> Phrases:
        return Phrases(
            known, embedder.choose([texts[i] for i in rng.choice(len(texts), count, replace=False).tolist()])
        )

    queries = {
        "a sound": [make_query(space, known, sound, None) for sound in sounds],
        "a class": [make_query(space, known, None, some(names, 1)) for _ in range(n)],
    }
    if typed:
        queries["other words"] = [make_query(space, known, None, some(typed, 1)) for _ in range(n)]
    queries["a sound and words"] = [make_query(space, known, sound, some(words, 1)) for sound in sounds]
    if len(words) >= 3:
        queries["words and words"] = [make_query(space, known, None, some(words, 2)) for _ in range(n)]
        queries["words, not words"] = [make_query(space, known, None, some(words, 2), 1) for _ in range(n)]
        queries["words and words, not words"] = [make_query(space, known, None, some(words, 3), 1) for _ in range(n)]
    return queries, Phrases(known, embedder.choose(words))


def build(sounds: Path, bundle: Path, out: Path) -> dict[str, Any]:
    """Make the index in a process of its own: the command's JSON, and the largest memory that was seen."""
    command = [sys.executable, "-m", "serving.index", str(sounds), "--bundle", str(bundle), "--out", str(out)]
    peak_mb = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak_mb = max(peak_mb, resident_mb(process.pid) or 0.0)
            time.sleep(LOOK_S)
        assert process.stdout is not None
        told = process.stdout.read()
    if process.returncode:
        raise UsageError("python -m serving.index refused the rows; its error is above")
    return json.loads(told.splitlines()[-1]) | {"peak_mb": round(peak_mb, 1)}


def search(index: Path, queries: dict[str, list[Query]]) -> Searched:
    """Ask all queries in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.search_process", str(index)]
    done = subprocess.run(command, input=pickle.dumps(queries), stdout=subprocess.PIPE, check=True)
    return pickle.loads(done.stdout)


def measure(options: Options) -> dict[str, Any]:
    """Make the rows and the index, search it, write the files, and return what is printed as JSON."""
    if options.rows != 0:
        check_range("--rows", options.rows, TOP, 10**8)
    check_range("--queries", options.queries, 1, 10**6)
    check_range("--seed", options.seed, 0, 2**32 - 1)
    real_file, embedder = EmbeddingFile(options.sounds), Embedder.load(options.bundle)
    if embedder.manifest.embedding_space != real_file.space:
        raise UsageError(f"{options.sounds}: was not embedded with {options.bundle}; embed it again with that bundle")
    study = Study("search", options.out)
    real = np.concatenate([rows[is_heard(batch, rows)] for batch, rows in real_file.batches(("level_dbfs",))])
    if len(real) < TOP:
        raise UsageError(f"{options.sounds}: has {len(real)} rows that are not silent; wanted {TOP} or more")
    rng = np.random.default_rng(options.seed)
    synthetic = SyntheticRows(real, rng)
    with tempfile.TemporaryDirectory(prefix="unheard-search-", dir=options.out) as folder:
        sounds, out = options.sounds, Path(folder) / "sounds.index"
        if options.rows:
            say(f"drawing {options.rows} rows around {len(real)} embeddings")
            sounds = Path(folder) / "sounds.parquet"
            write_sounds(sounds, synthetic, options.rows, real_file.space, real_file.size)
        built = build(sounds, options.bundle, out)
        queries, phrases = make_queries(embedder, synthetic, options.queries, rng)
        say(f"searching {len(queries)} times {options.queries} times")
        searched = search(out, queries)
        say("comparing with the exact search")
        sample = SearchIndex.open(out).sample
        checked = [query for asked in queries.values() for query in asked[:CHECKED]]
        least = exact_answers(sounds, checked, phrases, sample).reshape(len(queries), -1)
    rows = [
        SearchRow(
            kind,
            len(found),
            recall(found[:CHECKED], exact),
            *_ms(searched.ns[kind]),
            cpu_p95_ms=_ms(searched.cpu_ns[kind])[1],
        )
        for (kind, found), exact in zip(searched.found.items(), least, strict=True)
    ]
    record = study.record(
        real_embeddings=len(real),
        rows_of_index=built["rows"],
        built=built | {"rows_per_s": round(built["rows"] / built["seconds"])},
        open_ms=searched.open_ms,
        memory_mb=dict(zip(("imported", "opened", "searched"), map(asdict, searched.memory), strict=True)),
        rows=[asdict(row) for row in rows],
    )
    study.write(record, rows, [search_table(rows)], notes_of(options, len(real), real_file.size, built, searched))
    return record


def notes_of(options: Options, n_real: int, size: int, built: dict[str, Any], searched: Searched) -> list[str]:
    """What stands below the table."""
    drawn = f"drawn around {n_real} real embeddings" if options.rows else "all of them real"
    start, opened, asked = searched.memory
    first_ms, *later_ms = searched.open_ms
    return [
        f"{built['rows']} rows of {size} numbers, {drawn}; {TOP} results",
        f"index: {built['bytes'] / 1e6:.0f} MB on disk, made in {built['seconds']:.0f} s with {built['peak_mb']:.0f} "
        f"MB of memory, opened in {first_ms:.1f} ms, and again in {min(later_ms):.1f} to {max(later_ms):.1f} ms",
        f"memory of the process that searched: {start.resident:.0f} MB before it opened the index, "
        f"{opened.resident:.0f} MB after, {asked.resident:.0f} MB after all queries; {asked.mapped:.0f} MB of that are "
        "pages of mapped files, which the system takes back when it needs memory",
        f"one query at a time, after {WARM_UP} of each kind that do not count; recall against an exact search in "
        f"float32, of the first {min(CHECKED, options.queries)} queries of each kind",
    ]


def _ms(durations: Sequence[int]) -> tuple[float, float, float]:
    found = percentiles(np.array(durations))
    return found.p50_ms, found.p95_ms, found.p99_ms


def search_table(rows: Sequence[SearchRow]) -> TextTable:
    """Recall and times of each kind of query."""
    head = ("query", f"recall of {TOP}", "p50 ms", "p95 ms", "p99 ms", "p95 CPU ms")
    lines = [
        [row.kind, f"{row.recall:.4f}", *map(digits, (row.p50_ms, row.p95_ms, row.p99_ms, row.cpu_p95_ms))]
        for row in rows
    ]
    return TextTable("search", head, lines)


main = partial(run_command, Options, measure, "python -m benchmarks.search")

if __name__ == "__main__":
    raise SystemExit(main())
