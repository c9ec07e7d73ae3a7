"""The inputs that models are compared on: the probes and the windows of recordings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.audio import Recording, Window, level_dbfs, warn_in_python
from serving.pooling import pool_heard
from serving.probes import probe_windows
from serving.progress import track

T = TypeVar("T")


@dataclass(frozen=True)
class Samples:
    """The probes, followed by the windows of recordings.

    names, windows   [n] and [n, samples] float32
    n_probes         number of probes
    counts           number of windows of each recording, in order
    levels_dbfs      peak level of each of these windows
    labels           class of each recording; [] if unknown
    """

    names: list[str]
    windows: NDArray[np.float32]
    n_probes: int
    counts: list[int]
    levels_dbfs: list[float]
    labels: list[str]

    def pool(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The embeddings by which recordings are ranked [n_recordings, size], from those of all rows [n, size]."""
        starts = np.cumsum(self.counts)[:-1]
        clips, levels = np.split(embeddings[self.n_probes :], starts), np.split(self.levels_dbfs, starts)
        return np.stack([pool_heard(*each) for each in zip(clips, levels, strict=True)])


def collect_samples(window: Window, paths: Sequence[Path], labels: Sequence[str] = ()) -> Samples:
    """Collect the probes and all windows of these recordings.

    labels   classes of the recordings; empty if unknown
    errors   AudioError: a file cannot be read
    """
    names, windows = probe_windows(window)
    n_probes, counts, levels, parts = len(names), [], [], [windows]
    titles = [path.name for path in paths]
    if len(set(titles)) < len(titles):  # class folders, each with files of the same names
        titles = [f"{path.parent.name}/{path.name}" for path in paths]
    for title, clip in zip(titles, recording_windows(paths, window), strict=True):
        names += [f"{title}, window {i + 1}" if len(clip) > 1 else title for i in range(len(clip))]
        parts.append(clip)
        counts.append(len(clip))
        levels += [level_dbfs(each) for each in clip]
    return Samples(names, np.concatenate(parts), n_probes, counts, levels, list(labels))


def spread(items: Sequence[T], most: int) -> list[T]:
    """Choose at most `most` of the items, spread evenly over all of them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def recording_windows(paths: Sequence[Path], window: Window) -> Iterator[NDArray[np.float32]]:
    """Yield the windows [n_windows, samples] float32 of each recording. AudioError: a file cannot be read."""
    for path in track(paths, "decoding", quiet=not paths):
        recording = Recording.from_file(path, window.rate_hz)
        for warning in recording.warnings:
            warn_in_python(warning)
        yield recording.windows(window)
