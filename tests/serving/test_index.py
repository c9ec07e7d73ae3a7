"""The index of embedded sounds on disk: whole or not at all, opened only if it is the one that was written."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from serving.errors import UsageError
from serving.index import main
from serving.search.index_builder import build_index
from serving.search.index_folder import FILES
from serving.search.query import make_query
from serving.search.search_index import SearchIndex
from serving.zeroshot import ZeroShot, unit_rows
from tests.indexed_sounds import index_sounds, write_sounds


@pytest.fixture(scope="module")
def indexed(bundle_folder, tmp_path_factory) -> Path:
    """The small sounds' index, with sounds.parquet beside it."""
    folder = tmp_path_factory.mktemp("indexed")
    write_sounds(folder / "sounds")
    return index_sounds(bundle_folder, folder / "sounds", folder)


@pytest.fixture
def own(indexed, tmp_path) -> Path:
    """A copy of the index and of its Parquet file, for a test to spoil."""
    shutil.copytree(indexed, tmp_path / "sounds.index")
    shutil.copy(indexed.with_name("sounds.parquet"), tmp_path / "sounds.parquet")
    return tmp_path / "sounds.index"


def refusal(capsys, arguments: list[str], run=main) -> str:
    """The one line with which a command refuses its input."""
    capsys.readouterr()
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    return line


def write_parquet(file: Path, embeddings: np.ndarray, /, **changes: list) -> Path:
    """A Parquet file of embeddings with the columns of the oldest version."""
    n, size = embeddings.shape
    columns = {
        "path": [f"{i}.wav" for i in range(n)],
        "start_s": np.arange(n, dtype=float),
        "duration_s": np.ones(n),
        "embedding": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(embeddings.reshape(-1)), size),
        "embedding_space": ["5" * 64] * n,
    }
    parquet.write_table(pyarrow.table(columns | changes), file)
    return file


def test_the_command_tells_what_it_made_and_leaves_silent_rows_out(indexed, tmp_path, capsys):
    source = indexed.with_name("sounds.parquet")
    assert main([str(source), "--out", str(tmp_path / "again.index")]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    table = parquet.read_table(source)
    silent = int((table["level_dbfs"].to_numpy() < -70).sum())
    assert (told["rows"], told["left_out"]) == (len(table) - silent, silent)
    assert silent == 2
    assert told["embedding_space"] == table["embedding_space"][0].as_py()
    assert told["bytes"] == sum(
        path.stat().st_size for path in (tmp_path / "again.index").iterdir() if path.name != "index.json"
    )


def test_an_index_of_an_old_parquet_has_ends_and_no_times(tmp_path):
    source = write_parquet(tmp_path / "old.parquet", np.eye(8, dtype=np.float32))
    build_index(source, tmp_path / "old.index")
    index = SearchIndex.open(tmp_path / "old.index")
    assert len(index) == 8
    assert index.manifest.recordings is None


def test_rows_without_a_direction_are_left_out(tmp_path):
    rows = np.eye(8, dtype=np.float32)
    rows[3] = 0
    made = build_index(write_parquet(tmp_path / "a.parquet", rows), tmp_path / "a.index")
    assert (made.rows, made.left_out) == (7, 1)


def test_the_sample_is_of_rows_that_are_heard_however_many_are_silent(tmp_path):
    n, every = 20_000, 50
    rows = np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32)
    levels = [-20.0 if i % every == every - 1 else -100.0 for i in range(n)]
    build_index(write_parquet(tmp_path / "a.parquet", rows, level_dbfs=levels), tmp_path / "a.index")
    np.testing.assert_array_equal(SearchIndex.open(tmp_path / "a.index").sample, rows[every - 1 :: every])


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_short_is_refused(own, name):
    os.truncate(own / name, (own / name).stat().st_size - 1)
    with pytest.raises(UsageError, match=rf"{name}: has \d+ bytes, wanted \d+; copy the index again, or make it with"):
        SearchIndex.open(own)


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_one_changed_byte_is_refused(own, name):
    content = bytearray((own / name).read_bytes())
    content[len(content) // 2] ^= 0x40
    (own / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name}: has changed since it was made"):
        SearchIndex.open(own)


def test_a_copied_index_opens(own):
    assert len(SearchIndex.open(own)) == 8


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_told(own, name):
    (own / name).unlink()
    with pytest.raises(UsageError, match=rf"{name}: cannot be read \(No such file"):
        SearchIndex.open(own)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"format": 1}', b'{"format": 2}', b"[" * 50_000, b"\xff"],
)
def test_a_manifest_that_is_none_is_told(own, content):
    (own / "index.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"make it with: python -m serving\.index"):
        SearchIndex.open(own)


@pytest.mark.parametrize(
    ("field", "value"),
    [("rows", -1), ("rows", 0), ("rows", 2.5), ("embedding_size", "128"), ("files", {}), ("parquet", 3)],
)
def test_a_manifest_with_a_wrong_field_is_told(own, field, value):
    content = json.loads((own / "index.json").read_text())
    (own / "index.json").write_text(json.dumps(content | {field: value}))
    with pytest.raises(UsageError, match=r"index\.json: cannot be read"):
        SearchIndex.open(own)


@pytest.mark.parametrize("kind", ["nothing", "file", "empty folder"])
def test_what_is_no_index_is_told(tmp_path, kind):
    path = tmp_path / "x.index"
    if kind == "file":
        path.write_bytes(b"usearch")
    elif kind == "empty folder":
        path.mkdir()
    words = "no such index" if kind == "nothing" else "is no index"
    with pytest.raises(UsageError, match=rf"x\.index: {words}.*; make it with: python -m serving\.index"):
        SearchIndex.open(path)


def repointed(own: Path) -> Path:
    """The index, as if it had been made from the Parquet file beside it."""
    content = json.loads((own / "index.json").read_text())
    content["parquet"] = str(own.with_name("sounds.parquet"))
    (own / "index.json").write_text(json.dumps(content))
    return own.with_name("sounds.parquet")


def test_an_index_whose_parquet_file_has_changed_is_refused_with_the_command_that_mends_it(own):
    source = repointed(own)
    assert len(SearchIndex.open(own)) == 8  # touched, but the same
    parquet.write_table(parquet.read_table(source).slice(1), source)
    content = json.loads((own / "index.json").read_text())
    for map_id, flag in ((None, ""), ("of a map", "--bundle BUNDLE ")):
        (own / "index.json").write_text(json.dumps(content | {"map_id": map_id}))
        with pytest.raises(
            UsageError,
            match=rf"has changed since the index was made.*\.parquet {flag}--out .*sounds\.index --overwrite",
        ):
            SearchIndex.open(own)


def test_an_index_works_without_its_parquet_file(own):
    repointed(own).unlink()
    assert len(SearchIndex.open(own)) == 8


def test_an_existing_index_is_replaced_only_when_asked(own, capsys):
    source = str(own.with_name("sounds.parquet"))
    assert "exists already; give another folder, or --overwrite" in refusal(capsys, [source, "--out", str(own)])
    assert main([source, "--out", str(own), "--overwrite"]) == 0
    assert len(SearchIndex.open(own)) == 8
    assert "has no index.json" in refusal(capsys, [source, "--out", str(own.parent), "--overwrite"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"embedding": [1.0] * 8}, "is no Parquet of embeddings"),
        ({"embedding": [[1.0, 2.0]] * 8}, "is no Parquet of embeddings"),
        ({"embedding_space": ["a", "b"] * 4}, "has rows of 2 models"),
        ({"embedding_space": [None] * 8}, "has rows of no model"),
        ({"path": [None] * 8}, "a row has no path"),
        ({"start_s": ["early"] * 8}, "cannot be read"),
        ({"level_dbfs": ["loud"] * 8}, "cannot be read"),
    ],
)
def test_a_parquet_file_that_is_of_something_else_is_told(tmp_path, capsys, changes, reason):
    source = write_parquet(tmp_path / "x.parquet", np.eye(8, dtype=np.float32), **changes)
    line = refusal(capsys, [str(source), "--out", str(tmp_path / "x.index")])
    assert reason in line
    assert "make it with: python -m serving.embed" in line
    assert not (tmp_path / "x.index").exists()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (np.zeros((0, 8), np.float32), "has no rows"),
        (np.full((3, 8), np.nan, np.float32), "an embedding is not finite"),
        (np.zeros((3, 8), np.float32), "all of its rows are silent"),
    ],
)
def test_a_parquet_file_without_usable_embeddings_is_told(tmp_path, capsys, rows, reason):
    source = write_parquet(tmp_path / "x.parquet", rows)
    assert reason in refusal(capsys, [str(source), "--out", str(tmp_path / "x.index")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.parquet"]


@pytest.mark.parametrize("content", [None, b"", b"PAR1 is not enough"])
def test_a_file_that_is_no_parquet_is_told(tmp_path, capsys, content):
    path = tmp_path / "x.parquet"
    if content is not None:
        path.write_bytes(content)
    line = refusal(capsys, [str(path), "--out", str(tmp_path / "x.index")])
    assert ("no such file" if content is None else "cannot be read") in line


def test_the_labels_table_is_no_embeddings(tmp_path, capsys):
    path = tmp_path / "labels.parquet"
    parquet.write_table(pyarrow.table({"path": ["a"], "start_s": [0.0], "label": ["dog"]}), path)
    assert "is no Parquet of embeddings" in refusal(capsys, [str(path), "--out", str(tmp_path / "x.index")])


def test_the_same_rows_make_the_same_index(indexed, tmp_path):
    build_index(indexed.with_name("sounds.parquet"), tmp_path / "a.index")
    build_index(indexed.with_name("sounds.parquet"), tmp_path / "b.index")
    for name in FILES:
        assert (tmp_path / "a.index" / name).read_bytes() == (tmp_path / "b.index" / name).read_bytes()


@pytest.mark.parametrize("n", [1, 2, 63, 500])
def test_every_row_is_in_the_index_once(tmp_path, n):
    rows = np.random.default_rng(0).standard_normal((n, 8)).astype(np.float32)
    rows[n // 2 :] = rows[n // 2]  # many of them are the same
    build_index(write_parquet(tmp_path / "x.parquet", rows), tmp_path / "x.index")
    index = SearchIndex.open(tmp_path / "x.index")
    zeros, eye = np.zeros(8, np.float32), np.eye(8, dtype=np.float32)
    zeroshot = ZeroShot(zeros, eye, ["a"], eye[:1], np.ones(1, bool), 1.0)
    found = index.search(make_query("5" * 64, zeroshot, rows[0], None), top=2 * n)
    assert sorted(each.path for each in found) == sorted(f"{i}.wav" for i in range(n))
    for each in found:
        wanted = unit_rows(rows[[int(each.path[:-4]), 0]])
        assert each.score == pytest.approx(wanted[0] @ wanted[1], abs=1e-5)  # a few float32 roundings


@pytest.mark.parametrize(
    ("ending", "code", "left"),
    [
        (signal.SIGKILL, -signal.SIGKILL, 1),  # nothing can be tidied up
        (signal.SIGTERM, 128 + signal.SIGTERM, 0),
        (signal.SIGHUP, 128 + signal.SIGHUP, 0),
    ],
)
def test_a_command_that_is_ended_leaves_no_index(tmp_path, ending, code, left):
    rng = np.random.default_rng(0)
    source = write_parquet(tmp_path / "x.parquet", rng.standard_normal((40_000, 128)).astype(np.float32))
    command = [sys.executable, "-m", "serving.index", str(source), "--out", str(tmp_path / "x.index")]

    def as_in_a_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored

    with subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=as_in_a_terminal) as process:
        ends = time.monotonic() + 60
        while not list(tmp_path.glob(".x.index-*/rows.arrow")):  # it has begun
            assert time.monotonic() < ends
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(ending)
        assert process.wait(60) == code
    assert not (tmp_path / "x.index").exists()
    assert len(list(tmp_path.glob(".x.index-*"))) == left


def test_a_full_disk_is_told_in_one_line(tmp_path):
    rng = np.random.default_rng(0)
    source = write_parquet(tmp_path / "x.parquet", rng.standard_normal((2_000, 128)).astype(np.float32))
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)); "
        "from serving.index import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(source), "--out", str(tmp_path / "x.index")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.parquet"]
