"""The accuracy of labels on joined clips: its arithmetic, and the command as a whole."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import soundfile
from sklearn.metrics import average_precision_score

from benchmarks.label_accuracy import join_clips, main
from benchmarks.label_scores import Clip, average_precision, precision_and_recall, precision_by_class


@pytest.fixture(scope="module")
def clips_folder(recordings, tmp_path_factory) -> Path:
    """The small recordings in ESC-50's layout, all in fold 4, under names of classes that the bundle has."""
    names = {"tone": "rooster", "noise": "rain", "clicks": "clock_tick"}
    folder = tmp_path_factory.mktemp("esc")
    (folder / "meta").mkdir()
    (folder / "audio").mkdir()
    lines = ["filename,fold,category"]
    for path in sorted(recordings.rglob("*.wav")):
        name = f"{path.parent.name}-{path.name}"
        shutil.copy(path, folder / "audio" / name)
        lines.append(f"{name},4,{names[path.parent.name]}")
    (folder / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_average_precision_is_scikit_learns():
    rng = np.random.default_rng(0)
    for _ in range(20):
        right, scores = rng.random(50) < 0.3, rng.random(50)
        assert average_precision(right, scores) == pytest.approx(average_precision_score(right, scores))
    assert np.isnan(average_precision(np.zeros(3, bool), np.ones(3)))


def test_clips_are_joined_in_order_with_gaps_and_without_a_lost_sample(tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.wav" for i in range(5)]
    for path in paths:
        soundfile.write(path, 0.5 * rng.uniform(-1, 1, 44_100), 44_100, subtype="FLOAT")
    placed = join_clips([Clip(path, "a") for path in paths], 12, -120, 3, tmp_path / "all.wav")
    sound, rate_hz = soundfile.read(tmp_path / "all.wav")
    assert len(sound) == 12 * rate_hz
    assert [clip.path for clip in placed] != paths
    assert all(one.end_s <= other.start_s for one, other in itertools.pairwise(placed))
    for clip in placed:
        own = sound[round(clip.start_s * rate_hz) : round(clip.end_s * rate_hz)]
        np.testing.assert_allclose(own, soundfile.read(clip.path)[0], atol=1e-4)  # 16 bits and the noise
    again = join_clips([Clip(path, "a") for path in paths], 12, -120, 3, tmp_path / "again.wav")
    assert again == placed


def test_a_row_is_right_only_if_half_of_it_lies_in_a_clip_of_its_label():
    clips = [Clip(Path("x"), "a", 10, 15), Clip(Path("y"), "b", 20, 25)]
    rows = pyarrow.table(
        {
            "start_s": [10.0, 13.0, 9.0, 20.0],
            "end_s": [15.0, 18.0, 12.0, 25.0],
            "label": ["a", "a", "a", "a"],
            "probability": [0.9, 0.8, 0.7, 0.6],
        }
    )
    assert precision_and_recall(rows, clips) == {"rows": 4, "precision": 0.5, "recall": 0.5}
    by_class = precision_by_class(rows, clips, "probability")
    assert by_class["a"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert np.isnan(by_class["b"])


def test_a_class_that_is_never_right_has_no_number_in_the_json(bundle_folder, clips_folder, capsys, monkeypatch):
    real = precision_by_class

    def without_rain(*given):
        return real(*given) | {"rain": float("nan")}

    monkeypatch.setattr("benchmarks.label_accuracy.precision_by_class", without_rain)
    arguments = [str(bundle_folder), "--data-dir", str(clips_folder), "--seconds", "240", "--seeds", "0"]
    assert main([*arguments, "--probabilities", "0.5", "--thresholds", "1"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert "NaN" not in line
    assert json.loads(line)["by_class"]["probability"]["rain"] is None


def test_the_command_measures_every_class_and_every_rule(bundle_folder, clips_folder, capsys):
    arguments = [str(bundle_folder), "--data-dir", str(clips_folder), "--seconds", "240", "--seeds", "0"]
    assert main([*arguments, "--probabilities", "0.5", "--thresholds", "-1", "1"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["clips"] == 24
    for by_class in result["by_class"].values():
        assert set(by_class) == {"rooster", "rain", "clock_tick"}
        assert all(0 < value <= 1 for value in by_class.values())
    half, every, none = result["tables"]
    assert (half["probability"], every["threshold"], none["threshold"]) == (0.5, -1, 1)
    assert every["rows"] >= half["rows"] > none["rows"] == 0
    assert every["recall"] >= half["recall"]


@pytest.mark.parametrize(
    ("flags", "message"), [("--fold 1", "no clip of fold 1"), ("--seconds 60", "more than the clips have")]
)
def test_a_recording_that_cannot_be_made_is_told(bundle_folder, clips_folder, capsys, flags, message):
    assert main([str(bundle_folder), "--data-dir", str(clips_folder), *flags.split()]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--seconds nan", "--seconds: got nan; wanted 1 to 21600"),
        ("--seconds inf", "--seconds: got inf"),
        ("--gap-dbfs nan", "--gap-dbfs: got nan"),
        ("--gap-dbfs 6", "--gap-dbfs: got 6"),
        ("--hop-seconds 0", "--hop-seconds: got 0"),
        ("--seeds -1", "--seeds: got -1"),
        ("--seeds", "--seeds: got no number"),
        ("--probabilities 0.5 2", "--probabilities: got 2; wanted 0 to 1"),
        ("--thresholds nan", "--thresholds: got nan; wanted -1 to 1"),
    ],
)
def test_a_wrong_number_is_one_line(tmp_path, capsys, flags, message):
    assert main([str(tmp_path), "--data-dir", str(tmp_path), *flags.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
