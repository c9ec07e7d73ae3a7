"""A split by clips gains where clips of one recording are alike; a split by recordings does not."""

import json

import numpy as np
import pytest

from serving.errors import DataError
from training.data.clips import ClipTable, LabelledClip
from training.evaluation.leak import Leak, main, measure_leak


def table(clips_of_a_source: int, n_sources: int = 24, folds: int | None = 4) -> ClipTable:
    """Two classes; sources take turns over classes and folds."""
    clips = tuple(
        LabelledClip(
            path=f"{source}-{take}.wav", label=source % 2, source=str(source), fold=folds and source // 2 % folds
        )  # type: ignore[arg-type]
        for source in range(n_sources)
        for take in range(clips_of_a_source)
    )
    return ClipTable("made", ("a", "b"), clips, "")


def inputs(table: ClipTable, class_size: float) -> np.ndarray:
    """Every recording in a place of its own, its clips together, its class told by class_size: [n_clips, 32]."""
    rng = np.random.default_rng(0)
    places = {clip.source: rng.standard_normal(32) for clip in table.clips}
    rows = [places[clip.source] + 0.05 * rng.standard_normal(32) for clip in table.clips]
    return np.array(rows, np.float32) + class_size * np.array([[clip.label] for clip in table.clips], np.float32)


def row(rows: list[Leak], classifier: str, clips: str) -> Leak:
    return next(row for row in rows if (row.classifier, row.clips) == (classifier, clips))


def test_recordings_without_a_class_in_them_are_known_again_only_in_random_splits():
    leaky = table(3)
    found = row(measure_leak(leaky, inputs(leaky, 0.0), 4, 3), "nearest neighbour", "all")
    assert found.random > 0.95
    assert found.grouped < 0.75
    assert found.own_folds is not None
    assert found.own_folds < 0.75
    assert found.n_clips == 72


def test_classes_that_sound_alike_in_all_recordings_gain_nothing():
    honest = table(3)
    for found in measure_leak(honest, inputs(honest, 5.0), 4, 3):
        assert found.random == found.grouped == 1.0
        assert found.random_error == 0.0


def test_only_clips_that_share_a_recording_are_counted_as_shared():
    single, triple = table(1, 12), table(3, 12)
    others = tuple(LabelledClip(clip.path, clip.label, f"other {clip.source}", clip.fold) for clip in single.clips)
    mixed = ClipTable("made", ("a", "b"), (*triple.clips, *others), "")
    rows = measure_leak(mixed, inputs(mixed, 0.0), 4, 2)
    assert row(rows, "ridge", "all").n_clips == 48
    assert row(rows, "ridge", "shared").n_clips == 36


def test_data_sets_without_folds_have_none():
    unfolded = table(2, folds=None)
    assert measure_leak(unfolded, inputs(unfolded, 1.0), 4, 2)[0].own_folds is None


@pytest.mark.parametrize(
    ("made", "parts", "said"),
    [(table(1), 4, "24 clips are of as many source recordings"), (table(2, 6), 4, "a has 3 source recordings")],
)
def test_what_cannot_be_compared_is_named(made, parts, said):
    with pytest.raises(DataError, match=said):
        measure_leak(made, inputs(made, 1.0), parts, 2)


def test_the_command_shows_the_leak_of_real_recordings(esc10, tmp_path, capsys):
    assert main(["--dataset", "ESC-10", "--data-dir", str(esc10), "--seeds", "3", "--cache-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "by source" in out
    rows = [Leak(**row) for row in json.loads(out.splitlines()[-1])["rows"]]
    assert row(rows, "nearest neighbour", "shared").random > row(rows, "nearest neighbour", "shared").grouped + 0.05
    for found in rows:
        assert found.random > found.grouped
        assert found.own_folds == pytest.approx(found.grouped, abs=0.05)


def test_the_command_refuses_one_seed(capsys):
    assert main(["--seeds", "1"]) == 2
    assert "--seeds: got 1; wanted 2 or more" in capsys.readouterr().err
