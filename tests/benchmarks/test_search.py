"""The benchmarks of the search: rows like real ones, an exact search to compare with, clips whose answer is known."""

import json

import numpy as np
import pytest
import soundfile

from benchmarks.exact_search import least_scores, recall
from benchmarks.search import main
from benchmarks.search_accuracy import main as accuracy
from benchmarks.search_accuracy import summarise
from benchmarks.synthetic_rows import SyntheticRows
from demo.bundle_choice import FROM_SCRATCH
from serving.embed import main as embed
from tests.conftest import RATE_HZ, small_sound
from tests.serving.test_index import write_parquet

BUNDLE = str(FROM_SCRATCH)
NAMES = {"tone": "rooster", "noise": "rain", "clicks": "clock_tick"}  # sounds under names of classes that it has


def test_synthetic_rows_lie_near_real_ones():
    rng = np.random.default_rng(0)
    real = np.concatenate([centre + 0.1 * rng.standard_normal((20, 16)) for centre in 5 * np.eye(3, 16)])
    rows = SyntheticRows(real.astype(np.float32), rng).draw(500)
    distances = np.linalg.norm(rows[:, None] - real[None], axis=2).min(axis=1)
    assert (rows.shape, rows.dtype) == ((500, 16), np.float32)
    assert distances.max() < 1  # the three groups are 7 apart
    assert distances.min() > 0


def test_the_exact_search_finds_the_tenth_largest_product(tmp_path):
    rows = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    source = write_parquet(tmp_path / "x.parquet", rows)
    asked = rows[:3]
    wanted = [np.sort(rows @ query)[-10] for query in asked]
    assert least_scores(source, lambda part: asked @ part.T).tolist() == pytest.approx(wanted)


def test_recall_is_the_share_of_ten_rows_whose_score_is_among_the_best_but_for_rounding():
    least = np.array([0.5, 2.0], np.float32)
    assert recall([[0.9] * 5 + [0.4999999] + [0.4] * 4, [2.1] * 10], least) == pytest.approx(0.8)


def test_the_benchmark_measures_recall_and_time_and_writes_its_files(recordings, tmp_path, capsys):
    sounds = tmp_path / "sounds.parquet"
    assert embed([BUNDLE, str(recordings), "--out", str(sounds), "--threads", "2"]) == 0
    flags = ["--rows", "500", "--queries", "5", "--out", str(tmp_path / "out")]
    assert main([str(sounds), "--bundle", BUNDLE, *flags]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    kinds = ["a class", "a sound", "a sound and words", "other words", "words and words"]
    assert sorted(row["kind"] for row in told["rows"]) == [*kinds, "words and words, not words", "words, not words"]
    assert all(0.98 < row["recall"] <= 1 for row in told["rows"])  # the cells of so few rows are all read
    assert told["built"]["rows"] == 500
    assert 0 < told["memory_mb"]["opened"]["mapped"] < told["memory_mb"]["searched"]["resident"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["search.csv", "search.json", "search.md"]


def test_embeddings_of_another_bundle_are_refused(tmp_path, capsys):
    source = write_parquet(tmp_path / "x.parquet", np.eye(128, dtype=np.float32))
    assert main([str(source), "--bundle", BUNDLE, "--out", str(tmp_path / "out")]) == 2
    assert "was not embedded with" in capsys.readouterr().err


def test_precision_is_measured_on_clips_in_esc50s_layout(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "audio").mkdir()
    (tmp_path / "meta").mkdir()
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for kind, category in NAMES.items():
        for i in range(6):
            name = f"4-{kind}{i}-A-0.wav"
            soundfile.write(tmp_path / "audio" / name, small_sound(kind, rng, 4.8), RATE_HZ)
            lines.append(f"{name},4,0,{category},False,{kind}{i},A")
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join(lines))
    assert accuracy([BUNDLE, "--data-dir", str(tmp_path), "--pairs", "2"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["clips"], told["windows"]) == (18, 18)
    assert told["by_words"]["seen"]["classes"] == 3
    assert told["by_sound"]["seen"]["sound"] == pytest.approx(0.5, abs=0.1)  # five of ten: a clip has five others
    assert told["by_words"]["seen"]["chance"] == pytest.approx(1 / 3, abs=0.01)
    assert set(told["conditions"]) == {"A and B", "A for A and B", "A not B", "A for A not B"}


def test_a_fold_without_clips_is_told(tmp_path, capsys):
    assert accuracy([BUNDLE, "--data-dir", str(tmp_path)]) == 2
    assert "is no list of ESC-50's clips" in capsys.readouterr().err


def test_seen_and_unseen_classes_are_summed_up_apart():
    found = summarise({"a": {"name": 1.0}, "b": {"name": 0.5}, "c": {"name": 0.0}}, {"a": True, "b": True, "c": False})
    assert found["seen"]["name"] == 0.75
    assert found["unseen"] == {"classes": 1, "name": 0.0}


@pytest.mark.parametrize(
    ("run", "flags", "message"),
    [
        (main, "--rows 5", "--rows: got 5; wanted 10 to"),
        (main, "--rows -1", "--rows: got -1"),
        (main, "--queries 0", "--queries: got 0"),
        (main, "--seed -1", "--seed: got -1"),
        (accuracy, "--pairs -1", "--pairs: got -1"),
        (accuracy, "--seed -1", "--seed: got -1"),
    ],
)
def test_a_wrong_number_is_one_line(tmp_path, capsys, run, flags, message):
    given = [str(tmp_path / "absent"), "--bundle", BUNDLE] if run is main else [BUNDLE, "--data-dir", str(tmp_path)]
    assert run([*given, *flags.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
