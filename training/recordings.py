"""A data set's clips together with their log-mel frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio import warn_in_python
from training.data.clip_frames import ClipFrames, ClipSet
from training.data.clips import ClipTable, LabelledClip
from training.data.frame_cache import load_frames
from training.run_folder import RunConfig


@dataclass(frozen=True)
class Recordings:
    """Clips and their frames, in the same order: row i of the table is clip i of the frames."""

    table: ClipTable
    frames: ClipFrames

    def labels(self) -> NDArray[np.int64]:
        """[n_clips], indices into the table's classes."""
        return np.array([clip.label for clip in self.table.clips], dtype=np.int64)

    def rows(self, clips: Sequence[LabelledClip]) -> NDArray[np.int64]:
        """[len(clips)], the clips' rows in the table."""
        row_of = {clip.path: row for row, clip in enumerate(self.table.clips)}
        return np.array([row_of[clip.path] for clip in clips], np.int64)

    def clip_set(self, clips: Sequence[LabelledClip], classes: Sequence[str]) -> ClipSet:
        """The clips with their frames, and labels that are indices into `classes`."""
        labels = [classes.index(self.table.classes[clip.label]) for clip in clips]
        return ClipSet(self.frames, self.rows(clips), np.array(labels, np.int64))


def load_recordings(
    config: RunConfig, table: ClipTable, cache_dir: Path, warn: Callable[[str], None] = warn_in_python
) -> Recordings:
    """The table's clips with the log-mels of the run's front end, from the cache if it has them; see `load_frames`."""
    window = config.front_end.network_window(config.window_frames)
    return Recordings(table, load_frames(table.clips, config.front_end, window, cache_dir, warn))
