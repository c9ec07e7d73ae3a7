"""Which clips calibrate INT8 and choose the layers that stay in FP32: others than those that judge the result."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from export.parity.samples import spread
from training.data.clips import LabelledClip
from training.data.splits import ClipSplit

MAX_CLIPS = 64  # of each use and part, spread over all classes


@dataclass(frozen=True)
class Int8Clips:
    """The clips of one run's INT8 model.

    calibration  training clips, which determine the ranges of the activations
    choosing     other training clips, and validation clips, because quantisation changes the embeddings of training
                 clips less; no test clip
    """

    calibration: tuple[LabelledClip, ...]
    choosing: tuple[LabelledClip, ...]


def int8_clips(clips: ClipSplit) -> Int8Clips:
    """Choose them. What a run without test clips is judged by gives those of every second source recording."""
    train, validation = clips.train, clips.validation
    if not clips.test and validation:
        validation = _every_second_source(validation)
    elif not clips.test:
        train = _every_second_source(train) or train
    chosen = spread(_by_class(train), 2 * MAX_CLIPS)
    others = (chosen[1::2] or chosen) + spread(_by_class(validation), MAX_CLIPS)
    return Int8Clips(tuple(chosen[::2]), tuple(others))


def _by_class(clips: Sequence[LabelledClip]) -> list[LabelledClip]:
    return sorted(clips, key=lambda clip: clip.label)


def _every_second_source(clips: Sequence[LabelledClip]) -> tuple[LabelledClip, ...]:
    """The clips of every second source recording of each class: none of a class that has only one."""
    sources: dict[int, dict[str, None]] = {}
    for clip in clips:
        sources.setdefault(clip.label, {})[clip.source] = None
    taken = {source for each in sources.values() for source in list(each)[1::2]}
    return tuple(clip for clip in clips if clip.source in taken)


def without_choosers(clips: ClipSplit) -> ClipSplit | None:
    """The clips without those held-out ones, or else training ones, that chose layers, and others of their recordings.

    None: a class, or all, would be left without a clip to judge
    """
    if clips.test:
        return clips
    used = int8_clips(clips)
    sources = {clip.source for clip in (*used.calibration, *used.choosing)}
    judging = tuple(clip for clip in clips.held_out or clips.train if clip.source not in sources)
    if not judging or {clip.label for clip in judging} != {clip.label for clip in clips.held_out or clips.train}:
        return None
    return replace(clips, validation=judging) if clips.validation else replace(clips, train=judging)
