"""The clips that choose the layers of an INT8 model are not those that it is judged by."""

from pathlib import Path

import pytest

from export.int8_clips import MAX_CLIPS, int8_clips, without_choosers
from training.data.clips import LabelledClip
from training.data.splits import ClipSplit

CLASSES = 4


def part(name: str, count: int, per_source: int = 1) -> tuple[LabelledClip, ...]:
    return tuple(
        LabelledClip(Path(f"{name}-{i}.wav"), i % CLASSES, f"{name}-{i // CLASSES // per_source}-{i % CLASSES}", None)
        for i in range(count)
    )


@pytest.mark.parametrize("validation", [2 * CLASSES, 40, 400])
@pytest.mark.parametrize("per_source", [1, 2])
def test_some_validation_clips_choose_and_those_of_other_recordings_judge(validation, per_source):
    clips = ClipSplit(part("train", 400), part("validation", validation, per_source), ())
    used, apart = int8_clips(clips), without_choosers(clips)
    assert apart is not None
    sources = {clip.source for clip in used.choosing}
    one_each = validation // per_source == CLASSES  # recordings of a class: it judges
    assert bool(sources & {clip.source for clip in clips.validation}) != one_each
    assert apart.train == clips.train
    assert len(apart.held_out) >= validation // 2
    assert not [clip for clip in apart.held_out if clip.source in sources]
    assert {clip.label for clip in apart.held_out} == set(range(CLASSES))


def test_where_nothing_is_held_out_training_clips_judge_that_neither_calibrate_nor_choose():
    clips = ClipSplit(part("train", 400), (), ())
    used, apart = int8_clips(clips), without_choosers(clips)
    assert apart is not None
    assert not set(apart.train) & {*used.calibration, *used.choosing}
    assert len(apart.train) == 400 - 2 * MAX_CLIPS
    assert {clip.label for clip in apart.train} == set(range(CLASSES))


def test_test_clips_judge_whatever_chooses():
    clips = ClipSplit(part("train", 400), part("validation", 100), part("test", 100))
    assert without_choosers(clips) == clips
    assert not set(int8_clips(clips).choosing) & set(clips.test)
    assert len([clip for clip in int8_clips(clips).choosing if clip in clips.validation]) == MAX_CLIPS


def test_too_few_clips_are_told():
    assert without_choosers(ClipSplit(part("train", CLASSES), (), ())) is None
    assert without_choosers(ClipSplit(part("train", 8), part("validation", 1), ())) is not None
