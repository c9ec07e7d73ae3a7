"""The inputs that models are compared on: the probes and the windows of recordings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.audio import RecordingStream, Window, warn_in_python
from serving.pooling import pool_heard
from serving.probes import probe_windows
from serving.progress import track

T = TypeVar("T")
MAX_SECONDS = 7200.0  # of sound in the windows of all recordings together: half a gigabyte
BLOCK = 8  # windows that are decoded at once


@dataclass(frozen=True)
class SampledRecording:
    """The windows that stand for a recording: all of them, or of a long one some, spread evenly over it.

    count        number of all of its windows
    taken        the numbers of those that stand for it, from 0
    levels_dbfs  the peak level of each of these
    """

    count: int
    taken: list[int]
    levels_dbfs: list[float]


@dataclass(frozen=True)
class Samples:
    """The probes, followed by the windows of recordings.

    names, windows   [n] and [n, samples] float32
    n_probes         number of probes
    recordings       the recordings, in order
    labels           class of each recording; [] if unknown
    """

    names: list[str]
    windows: NDArray[np.float32]
    n_probes: int
    recordings: list[SampledRecording]
    labels: list[str]

    def pool(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """The embeddings by which recordings are ranked [n_recordings, size], from those of all rows [n, size]."""
        levels = [recording.levels_dbfs for recording in self.recordings]
        clips = np.split(embeddings[self.n_probes :], np.cumsum([len(each) for each in levels])[:-1])
        return np.stack([pool_heard(*each) for each in zip(clips, levels, strict=True)])


def collect_samples(window: Window, paths: Sequence[Path], labels: Sequence[str] = ()) -> Samples:
    """Collect the probes and the windows of these recordings, see `recording_windows`.

    labels   classes of the recordings; empty if unknown
    errors   AudioError: a file cannot be read
    """
    names, windows = probe_windows(window)
    n_probes, recordings, parts = len(names), [], [windows]
    titles = [path.name for path in paths]
    if len(set(titles)) < len(titles):  # class folders, each with files of the same names
        titles = [f"{path.parent.name}/{path.name}" for path in paths]
    for title, (recording, clip) in zip(titles, recording_windows(paths, window), strict=True):
        names += [f"{title}, window {i + 1}" if recording.count > 1 else title for i in recording.taken]
        parts.append(clip)
        recordings.append(recording)
    return Samples(names, np.concatenate(parts), n_probes, recordings, list(labels))


def spread(items: Sequence[T], most: int) -> list[T]:
    """Choose at most `most` of the items, spread evenly over all of them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def recording_windows(paths: Sequence[Path], window: Window) -> Iterator[tuple[SampledRecording, NDArray[np.float32]]]:
    """Yield each recording with its windows [n_windows, samples] float32: MAX_SECONDS in all, and one of each at least.

    errors   AudioError: a file cannot be read
    """
    most = max(1, int(MAX_SECONDS / window.seconds) // max(1, len(paths)))
    for path in track(paths, "decoding", quiet=not paths):
        stream = RecordingStream(path, window, BLOCK, lambda windows: windows)
        count, step = 0, 1
        kept: list[tuple[int, float, NDArray[np.float32]]] = []
        for block in stream:
            for level, row in zip(block.levels_dbfs.tolist(), block.inputs, strict=True):
                if count % step == 0:
                    kept.append((count, level, row.copy()))  # the row alone, for it would hold the whole block
                count += 1
                if len(kept) > 2 * most:  # the recording is long: only every second one is kept from here on
                    kept, step = kept[::2], 2 * step
        for warning in stream.warnings:
            warn_in_python(warning)
        taken, levels, rows = zip(*spread(kept, most), strict=True)
        yield SampledRecording(count, list(taken), list(levels)), np.stack(rows)
