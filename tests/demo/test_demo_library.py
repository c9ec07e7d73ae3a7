"""The demo's library of similar sounds: what serving.embed wrote, searched, played and drawn as a map."""

import base64
import io
import re
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile
from pyarrow import parquet

from demo.drawing.library_map import MAX_DOTS, draw_map
from demo.examples import Example
from demo.library import Library, class_of, embed_examples, read_index, read_library
from demo.tabs.find_similar import ask, check_space
from serving.embed import main as embed
from serving.errors import AudioError, UsageError
from serving.search.index_builder import build_index
from serving.search.query import make_query
from tests.indexed_sounds import write_recording

RATE_HZ = 16_000
NO_PATH = "a row has no path, place or embedding"


@pytest.fixture(scope="module")
def library(bundle_folder, recordings, tmp_path_factory) -> Path:
    """The small recordings, embedded by the command."""
    out = tmp_path_factory.mktemp("library") / "small.parquet"
    assert embed([str(bundle_folder), str(recordings), "--out", str(out)]) == 0
    return out


def small_library(embeddings: np.ndarray, root: Path = Path(), names: list[str] | None = None) -> Library:
    count = len(embeddings)
    paths = names or [f"{i % 3}/{i}.wav" for i in range(count)]
    classes = [class_of(path) for path in paths]
    return Library(
        "lib", root, paths, classes, np.zeros(count), np.ones(count), embeddings.astype(np.float32), "5" * 64
    )


def test_a_recording_that_is_silent_in_parts_finds_itself_first(bundle_folder, embedder, tmp_path):
    write_recording(tmp_path / "sounds" / "pauses.wav", ("tone", "zeros", "clicks", "zeros"), 1)
    write_recording(tmp_path / "sounds" / "clicks.wav", ("clicks",), 2)
    source = tmp_path / "clips.parquet"
    assert embed([str(bundle_folder), str(tmp_path / "sounds"), "--out", str(source)]) == 0
    build_index(source, tmp_path / "clips.index")
    examples = [Example(path, path.stem) for path in sorted((tmp_path / "sounds").iterdir())]
    own = str(tmp_path / "sounds" / "pauses.wav")
    for each in (read_library(source), read_index(tmp_path / "clips.index"), embed_examples(embedder, examples)):
        asked = ask(embedder, own, None, each.per)
        assert asked is not None
        (row, score), *_ = each.search(asked.query, 1)
        assert (Path(each.paths[row]).name, score) == ("pauses.wav", pytest.approx(1, abs=1e-5))


def test_silent_rows_of_a_library_are_left_out(bundle_folder, tmp_path):
    write_recording(tmp_path / "sounds" / "pauses.wav", ("tone", "zeros", "clicks"), 1)
    source, sounds = tmp_path / "windows.parquet", str(tmp_path / "sounds")
    assert embed([str(bundle_folder), sounds, "--per", "window", "--out", str(source)]) == 0
    assert read_library(source).starts_s == pytest.approx([0, 9.6])
    (tmp_path / "sounds" / "pauses.wav").unlink()
    write_recording(tmp_path / "sounds" / "silent.wav", ("zeros",), 1)
    assert embed([str(bundle_folder), sounds, "--out", str(source), "--overwrite"]) == 0
    with pytest.raises(UsageError, match=r"--library: .*windows\.parquet: all of its rows are silent"):
        read_library(source)


def pitch_hz(wave: np.ndarray, rate_hz: int) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax() * rate_hz / len(wave))


def test_a_row_of_a_window_is_played_from_where_it_begins(bundle_folder, tmp_path):
    time = np.arange(77_040) / RATE_HZ
    sound = np.concatenate([0.5 * np.sin(2 * np.pi * hz * time) for hz in (440, 1760)])
    (tmp_path / "long").mkdir()
    soundfile.write(tmp_path / "long" / "two.wav", sound, RATE_HZ)
    out = tmp_path / "windows.parquet"
    assert embed([str(bundle_folder), str(tmp_path / "long"), "--out", str(out), "--per", "window"]) == 0
    windows = read_library(out)
    assert len(windows) == 2
    data = windows.preview(1).split(",")[1]
    played, rate_hz = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert pitch_hz(played, rate_hz) == pytest.approx(1760, abs=2)


@pytest.mark.parametrize("suffix", [".wav", ".ogg", ".mp3"])
def test_a_stretch_of_a_long_recording_is_played_without_holding_the_whole(tmp_path, suffix):
    rate_hz, seconds = 48_000, 300  # 58 MB as float32
    time = np.arange(seconds * rate_hz) / rate_hz
    sound = 0.5 * np.sin(2 * np.pi * np.where(time < 200, 440, 1760) * time)
    with soundfile.SoundFile(tmp_path / f"long{suffix}", "w", rate_hz, 1) as file:
        for start in range(0, len(sound), rate_hz):
            file.write(sound[start : start + rate_hz])
    library = small_library(np.ones((1, 4)), tmp_path, [f"long{suffix}"])
    library = replace(library, starts_s=np.array([201.0]), durations_s=np.array([5.0]))
    tracemalloc.start()
    try:
        data = library.preview(0).split(",")[1]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    played, played_hz = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert len(played) / played_hz == pytest.approx(5, abs=0.2)
    assert pitch_hz(played, played_hz) == pytest.approx(1760, abs=2)
    assert peak < 30e6


@pytest.mark.parametrize("name", ["../secret.wav", "a/../../secret.wav", "/etc/secret.wav"])
def test_nothing_outside_of_the_folder_is_played(tmp_path, name):
    soundfile.write(tmp_path / "secret.wav", np.zeros(100), RATE_HZ)
    (tmp_path / "root").mkdir()
    with pytest.raises(AudioError, match="leads out of the library's folder"):
        small_library(np.ones((1, 4)), tmp_path / "root", [name]).preview(0)


def test_a_recording_that_is_gone_or_no_sound_is_told(tmp_path):
    (tmp_path / "no sound.wav").write_text("root:x:0:0")
    two = small_library(np.ones((2, 4)), tmp_path, ["gone.wav", "no sound.wav"])
    for row in (0, 1):
        with pytest.raises(AudioError, match=r"cannot be played from .*; give its folder with --recordings"):
            two.preview(row)


def test_the_folder_is_the_one_that_was_embedded_unless_another_is_given(library, recordings, tmp_path):
    assert read_library(library).root == recordings
    assert read_library(library, tmp_path).root == tmp_path
    with pytest.raises(UsageError, match=r"--recordings: .*nowhere: is not there; say where it is now"):
        read_library(library, tmp_path / "nowhere")


def test_an_index_finds_what_its_parquet_finds(library, recordings, embedder, tmp_path):
    build_index(library, tmp_path / "small.index", embedder.bundle)
    index, table = read_index(tmp_path / "small.index"), read_library(library)
    assert (index.root, index.space, len(index)) == (recordings, table.space, len(table))
    tone = embedder.embed_files([recordings / "tone" / "0.wav"])[0]
    query = make_query(index.space, embedder.zeroshot, tone, None)
    found, expected = index.search(query, 5), table.search(query, 5)
    assert [index.paths[row] for row, _ in found] == [table.paths[row] for row, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)
    row = found[0][0]
    assert (index.classes[row], index.starts_s[row], index.durations_s[row]) == ("tone", 0, pytest.approx(3))
    assert index.preview(row) == table.preview(expected[0][0])
    assert "neighbour" in draw_map(index, tone, [row])


def test_what_is_no_index_is_told(library, tmp_path):
    with pytest.raises(UsageError, match=r"^--index: .*: is no index, it has no index\.json"):
        read_index(library)
    with pytest.raises(UsageError, match=r"^--index: .*no such index; make it with"):
        read_index(tmp_path / "none")


def test_a_library_of_another_model_is_refused_with_the_command_that_mends_it(library, embedder):
    other = replace(read_library(library), space="6" * 64)
    check_space(read_library(library), embedder, "mine")
    with pytest.raises(
        UsageError, match=r"embedded with another model \(66666666\).*python -m serving\.embed .* --out"
    ):
        check_space(other, embedder, "mine")


def change(table: pyarrow.Table, name: str, column: pyarrow.Array) -> pyarrow.Table:
    return table.set_column(table.column_names.index(name), name, column)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda table: table.drop(["path"]), "is no Parquet of embeddings"),
        (lambda table: change(table, "embedding", table["start_s"].combine_chunks()), "is no Parquet of embeddings"),
        (
            lambda table: change(table, "path", pyarrow.nulls(24, pyarrow.string())),
            NO_PATH,
        ),
        (lambda table: table.slice(0, 0), "has no rows"),
        (lambda table: change(table, "embedding_space", pyarrow.array(["a", "b"] * 12)), "has rows of 2 models"),
    ],
    ids=["no path", "numbers", "nulls", "no rows", "two models"],
)
def test_a_file_that_is_no_library_is_told(library, tmp_path, spoil, reason):
    parquet.write_table(spoil(parquet.read_table(library)), tmp_path / "spoilt.parquet")
    with pytest.raises(UsageError, match=rf"--library: .*spoilt\.parquet: {reason}; make it with: python -m"):
        read_library(tmp_path / "spoilt.parquet")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("1-100032-A-0.wav", "dog"),
        ("x/5-9032-A-49.ogg", "hand saw"),
        ("tree_falling/3.wav", "tree falling"),
        ("a.wav", ""),
    ],
)
def test_a_recording_is_of_esc50s_class_else_of_its_folders(path, name):
    assert class_of(path) == name


def test_examples_are_a_library_whose_classes_are_their_names(embedder, recordings):
    examples = [Example(recordings / kind / "0.wav", kind.upper()) for kind in ("tone", "noise")]
    small = embed_examples(embedder, examples)
    assert small.classes == ["TONE", "NOISE"]
    assert small.durations_s.tolist() == [soundfile.info(each.path).duration for each in examples]
    sound = embedder.embed_files([examples[1].path])[0]
    row, cosine = small.search(make_query(small.space, embedder.zeroshot, sound, None), 5)[0]
    assert (row, cosine) == (1, pytest.approx(1, abs=1e-5))
    assert small.preview(0).startswith("data:audio/mpeg;base64,")
    check_space(small, embedder, "mine")


def test_the_map_keeps_the_two_directions_in_which_embeddings_differ_most():
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    flat = np.zeros((60, 16))
    flat[:, :2] = 0.1 * rng.standard_normal((60, 2)) * (3, 1)
    flat[:, 2] = 5  # far from the origin: lengths hardly differ
    rows = flat @ plane.T
    places = small_library(rows).place(rows.astype(np.float32))
    wanted = flat[:, :2] / 5
    for axis in (0, 1):
        assert abs(np.corrcoef(places[:, axis], wanted[:, axis])[0, 1]) > 0.98
    assert places[:, 0].std() > 2 * places[:, 1].std()


def test_a_large_library_is_drawn_in_part_but_its_neighbours_always():
    rows = np.random.default_rng(0).standard_normal((2 * MAX_DOTS + 1, 8))
    drawn = draw_map(small_library(rows), rows[7].astype(np.float32), near=[7, 1999])
    shown = set(map(int, re.findall(r'data-row="(\d+)"', drawn)))
    assert {7, 1999} < shown
    assert MAX_DOTS / 2 < len(shown) <= MAX_DOTS + 2
    assert drawn.count('class="dot near"') == 2
    assert f"{len(shown)} of {len(rows)} sounds" in drawn
    assert len(re.findall('tabindex="0"', drawn)) == 1  # Tab stops at the map once


def test_one_recording_and_equal_ones_make_a_map_too():
    for count in (1, 3):
        drawn = draw_map(small_library(np.ones((count, 8))))
        assert drawn.count("data-row") == count
        assert "nan" not in drawn


def test_a_name_is_text_in_the_map_whatever_it_says():
    drawn = draw_map(small_library(np.eye(2), names=['<img src=x onerror="alert(1)">/a.wav', '"><b>.wav']))
    assert "<img" not in drawn
    assert "<b>" not in drawn
