"""The curves of few examples: what they compare, and the command as a whole."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.few_shot.__main__ import main
from benchmarks.few_shot.clips import Clips, log_mel_statistics
from benchmarks.few_shot.curves import METHODS, accuracy_curves, among_all_classes, harmonic, mean_and_error
from benchmarks.few_shot.methods import BOTH, DESCRIPTION, EXAMPLES, name_clips, without_text
from benchmarks.few_shot.problem import Problem, make_problem
from benchmarks.few_shot.review_curves import RANDOM, REVIEW, review_curves
from benchmarks.few_shot.sureness import ERROR, KEPT, sureness
from demo.bundle_choice import FROM_SCRATCH
from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.errors import UsageError
from serving.zeroshot import ZeroShot, unit_rows
from serving.zeroshot.zeroshot_file import read_zeroshot, write_zeroshot
from tests.conftest import RATE_HZ, small_sound
from training.evaluation.controls import log_mel_statistics as controls_statistics

NAMES = {"tone": "rooster", "noise": "rain", "clicks": "clock_tick"}  # classes that the bundle has


def problem_of(spread: float, text_error: float, test_fold: int = 4) -> Problem:
    """Two seen and four unseen classes of 24 clips in four folds, around random centres; texts lie near the centres."""
    rng = np.random.default_rng(0)
    centres = unit_rows(rng.standard_normal((6, 16)))
    labels = np.repeat(np.arange(6), 24)
    rows = (centres[labels] + spread * rng.standard_normal((144, 16))).astype(np.float32)
    texts = unit_rows(centres + text_error * rng.standard_normal((6, 16))).astype(np.float32)
    names = [f"class {i}" for i in range(6)]
    seen = np.array([True, True, False, False, False, False])
    zeroshot = ZeroShot(np.zeros(16, np.float32), np.eye(16, dtype=np.float32), names, texts, seen, 10.0)
    clips = Clips(rows, rows, np.array(names)[labels], np.tile(np.arange(1, 5), 36))
    return make_problem(zeroshot, clips, test_fold, most=4)


def test_examples_and_test_clips_share_no_recording_fold():
    problem = problem_of(0.2, 0.2)
    assert set(problem.clips.folds[problem.test]) == {4}
    drawn = problem.draw(4, np.random.default_rng(0))
    assert 4 not in problem.clips.folds[drawn]
    assert np.bincount(problem.labels[drawn]).tolist() == [4, 4, 4, 4]
    assert problem.prior.class_names == ["class 2", "class 3", "class 4", "class 5"]


def test_more_examples_name_more_clips_right_and_texts_help_where_there_are_few():
    curves = accuracy_curves([problem_of(0.35, 0.3)], [0, 1, 4], draws=10)
    assert set(curves) == set(METHODS)
    both, alone = curves[BOTH].mean(axis=0), curves[EXAMPLES].mean(axis=0)
    assert both[0] == curves[DESCRIPTION][0, 0]
    assert np.isnan(alone[0])
    assert both[1] > alone[1]
    assert alone[2] > alone[1]
    assert (curves[DESCRIPTION] == curves[DESCRIPTION][0, 0]).all()


def test_without_texts_the_map_is_the_nearest_mean_direction():
    problem = problem_of(0.3, 0.3)
    train = problem.draw(3, np.random.default_rng(1))
    named = name_clips(EXAMPLES, problem.prior, problem.clips, train, problem.test, problem.labels)
    rows = unit_rows(problem.clips.embeddings)
    means = np.stack([rows[train][problem.labels[train] == c].mean(axis=0) for c in range(4)])
    np.testing.assert_array_equal(named, (rows[problem.test] @ unit_rows(means).T).argmax(axis=1))
    assert not without_text(problem.prior).described_targets.any()


def test_the_statistics_are_those_of_the_controls_of_the_training():
    frames = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32)
    np.testing.assert_array_equal(log_mel_statistics(frames), controls_statistics(frames))
    np.testing.assert_array_equal(log_mel_statistics(frames[:1]), controls_statistics(frames[:1]))


def test_an_offset_for_taught_classes_moves_answers_to_the_classes_of_the_training():
    problem = problem_of(0.6, 0.3)
    problem = replace(problem, whole=replace(problem.whole, offset=4.0))
    found = among_all_classes([problem], [4], draws=3)
    seen, taught = (found[rule][:, 0].mean(axis=0) for rule in ("as seen", "as unseen"))
    assert seen[0] > taught[0]
    assert seen[1] < taught[1]
    assert harmonic(np.array([[0.5, 1.0], [0.0, 0.0]])).tolist() == pytest.approx([2 / 3, 0])


def test_clips_of_other_labels_are_refused_more_often_after_examples():
    found = sureness([problem_of(0.2, 0.3)], [0, 4], draws=3, threshold=0.5)
    assert {values.shape for values in found.values()} == {(3, 2)}
    assert found[KEPT][:, 1].mean() > found[KEPT][:, 0].mean()
    assert found[ERROR].min() >= 0


def test_a_standard_error_is_that_of_the_mean_of_the_draws():
    assert mean_and_error(np.array([1.0, 2.0, 3.0])) == (2.0, pytest.approx(1 / np.sqrt(3)))
    assert mean_and_error(np.array([1.0])) == (1.0, 0.0)


def test_each_choice_of_sounds_begins_with_the_descriptions_and_labels_the_same_number():
    curves = review_curves([problem_of(0.35, 0.3)], rounds=3, draws=4)
    assert {values.shape for values in curves.values()} == {(4, 4)}
    np.testing.assert_array_equal(curves[REVIEW][:, 0], curves[RANDOM][:, 0])
    assert curves[REVIEW][:, 3].mean() > curves[REVIEW][:, 0].mean()


def test_a_bundle_without_unseen_classes_is_refused():
    problem = problem_of(0.2, 0.2)
    with pytest.raises(UsageError, match="has 0 unseen classes"):
        make_problem(replace(problem.whole, seen=np.ones(6, bool)), problem.clips, 4, most=4)
    with pytest.raises(UsageError, match="0 of them have 100 clips outside fold 4"):
        make_problem(problem.whole, problem.clips, 4, most=100)


@pytest.fixture(scope="module")
def holdout_bundle(tmp_path_factory) -> Path:
    """The project's bundle from scratch, whose three classes of NAMES count as unseen."""
    folder = shutil.copytree(FROM_SCRATCH, tmp_path_factory.mktemp("holdout") / "bundle")
    zeroshot = read_zeroshot(folder / "zeroshot.npz")
    seen = np.array([name not in NAMES.values() for name in zeroshot.class_names])
    write_zeroshot(replace(zeroshot, seen=seen), folder / "zeroshot.npz")
    write_manifest(folder, replace(open_bundle(FROM_SCRATCH).manifest, files={}))
    return folder


@pytest.fixture(scope="module")
def clips_folder(tmp_path_factory) -> Path:
    """Short sounds in ESC-50's layout: four of each class in each of two folds."""
    folder = tmp_path_factory.mktemp("esc")
    (folder / "meta").mkdir()
    (folder / "audio").mkdir()
    rng = np.random.default_rng(0)
    lines = ["filename,fold,category"]
    for kind, name in NAMES.items():
        for i in range(8):
            soundfile.write(folder / "audio" / f"{kind}-{i}.wav", small_sound(kind, rng, 0.5), RATE_HZ)
            lines.append(f"{kind}-{i}.wav,{1 + i % 2},{name}")
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_command_prints_tables_and_json_and_draws_a_picture(holdout_bundle, clips_folder, tmp_path, capsys):
    words = [str(holdout_bundle), "--data-dir", str(clips_folder), "--test-folds", "2", "--draws", "2"]
    words += ["--counts", "0", "1", "2", "--review-rounds", "2", "--plot", str(tmp_path / "plot.png")]
    assert main(words) == 0
    told = capsys.readouterr().out
    result = json.loads(told.splitlines()[-1])
    assert result["accuracy"][BOTH][2]["mean"] > 1 / 3
    assert result["accuracy"][EXAMPLES][0] is None
    assert len(result["review"][REVIEW]) == 3
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert main([*words[:4], "--test-folds", "1", "2"]) == 2
    assert main([str(holdout_bundle), "--data-dir", str(tmp_path), "--test-folds", "2"]) == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--draws 0", "--draws: got 0; wanted 1 to"),
        ("--counts", "--counts: got no number"),
        ("--counts 1 -1", "--counts: got -1"),
        ("--threshold nan", "--threshold: got nan"),
        ("--review-rounds -1", "--review-rounds: got -1"),
        ("--test-folds 6", "--test-folds: got 6; wanted 1 to 5"),
        ("--plot {folder}", "--plot: {folder} is a folder"),
    ],
)
def test_a_wrong_number_is_one_line(tmp_path, capsys, flags, message):
    words = ["absent", "--data-dir", str(tmp_path), "--test-folds", "2", *flags.format(folder=tmp_path).split()]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message.format(folder=tmp_path)}")
