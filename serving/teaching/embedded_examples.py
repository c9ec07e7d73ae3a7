"""The embeddings of examples: each file is decoded once, and only the stretches that are examples are embedded."""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.audio import PreparedWindows, is_silent, level_dbfs
from serving.audio.mono_stream import MonoStream
from serving.audio.reading import file_blocks
from serving.audio.sample_blocks import SampleBlock
from serving.audio.window import stream_windows
from serving.bulk.embed_files import embed_each, file_size
from serving.command_line import say
from serving.errors import AudioError, DataError, UsageError
from serving.files.file_record import record_of
from serving.pooling import pool_heard
from serving.progress import track
from serving.teaching.example_keys import key_of, recording_of
from serving.teaching.examples import Example
from serving.zeroshot.label_text import join_labels

if TYPE_CHECKING:
    from serving.embedder import Embedder

PAST_THE_END_S = 1.0  # by which a rounded end may lie after the end of the recording


@dataclass(frozen=True, eq=False)
class EmbeddedExamples:
    """Examples that could be embedded.

    labels       of each
    embeddings   [n, 128] float32: mean over the windows that are not silent
    keys         of each, see `example_keys`
    skipped      why other examples could not be used, one line each
    """

    labels: list[str]
    embeddings: NDArray[np.float32]
    keys: list[str]
    skipped: list[str]

    @property
    def recordings(self) -> NDArray[np.intp]:
        """The number of each one's recording: [n]."""
        return np.unique(list(map(recording_of, self.keys)), return_inverse=True)[1]


def embed_examples(embedder: "Embedder", examples: Sequence[Example], quiet: bool = True) -> EmbeddedExamples:
    """Embed examples. A sound that is listed twice under one label counts once.

    quiet    show no progress
    errors   AudioError: no example can be used; DataError: an example lies after the end of its recording; UsageError:
             one sound has two labels
    """
    found: dict[str, tuple[str, NDArray[np.float32]]] = {}  # key -> label, embedding
    skipped: list[str] = []
    for example, key, row in _embed(embedder, examples, skipped, quiet):
        known = found.get(key)
        if known is not None and known[0] != example.label:
            raise UsageError(
                f"{example.where or 'examples'}: the same sound is an example of "
                f"{join_labels([known[0], example.label])}; remove one of them"
            )
        if known is not None:
            skipped.append(f"{example.where or 'an example'}: the same sound is listed before; it counts once")
        else:
            found[key] = example.label, row
    if not found:
        raise AudioError(f"none of the {len(examples)} examples can be used; the first: {skipped[0]}")
    labels, rows = zip(*found.values(), strict=True)
    return EmbeddedExamples(list(labels), np.stack(rows), list(found), skipped)


def _embed(
    embedder: "Embedder", examples: Sequence[Example], skipped: list[str], quiet: bool
) -> Iterator[tuple[Example, str, NDArray[np.float32]]]:
    """Yield each usable example with its key and its embedding, files first. skipped: gets reasons for the others."""
    of_file: dict[Path, list[Example]] = {}
    for example in examples:
        if isinstance(example.source, Path):
            of_file.setdefault(example.source, []).append(example)
    stop = Event()
    opened = {path: ExampleFile(embedder, path, listed, stop) for path, listed in of_file.items()}
    batch, threads = embedder.max_batch, embedder.threads
    outcomes = embed_each(opened, file_size, opened.__getitem__, embedder.run_prepared, batch, threads, stop)
    with closing(outcomes):
        for path, outcome in track(outcomes, "examples", len(opened), quiet):
            if isinstance(outcome, AudioError):
                skipped.append(str(outcome))
                continue
            skipped += [f"{warning} (what could be read is used)" for warning in outcome.warnings]
            splits = np.cumsum(opened[path].counts)[:-1]
            rows, levels = np.split(outcome.rows, splits), np.split(outcome.levels_dbfs, splits)
            for example, key, part, loud in zip(of_file[path], opened[path].keys, rows, levels, strict=True):
                if (row := _sounding(part, loud)) is None:
                    skipped.append(f"{example.where or path}: is silent")
                else:
                    yield example, key, row
    for example in examples:
        if not isinstance(example.source, Path):
            wave, rate_hz = example.source
            windows = embedder.windows(wave, rate_hz)
            loud = np.array([level_dbfs(window) for window in windows])
            digest = hashlib.sha256(np.ascontiguousarray(wave).tobytes()).hexdigest()
            if (row := _sounding(embedder.run(windows), loud)) is None:
                skipped.append(f"{example.label}: an example is silent")
            else:
                yield example, f"{digest} {rate_hz:g}", row


def _sounding(rows: NDArray[np.float32], levels_dbfs: NDArray[np.float64]) -> NDArray[np.float32] | None:
    """The mean of the rows of windows that are not silent; None: all are."""
    return None if is_silent(levels_dbfs.max()) else pool_heard(rows, levels_dbfs)


class ExampleFile:
    """The windows of the examples of one file, one example after the other.

    stop     once it is set, the file is not read to its end
    counts   number of windows of each example, and its keys: known when all windows were read
    """

    def __init__(self, embedder: "Embedder", path: Path, examples: Sequence[Example], stop: Event):
        self.counts: list[int] = []
        self.keys: list[str] = []
        self.duration_s = 0.0
        self.warnings: tuple[str, ...] = ()
        self._embedder, self._path, self._examples, self._stop = embedder, path, examples, stop

    def __iter__(self) -> Iterator[PreparedWindows]:
        cut = [example for example in self._examples if not example.is_whole]
        waves = dict(zip(cut, self._read(cut), strict=True)) if cut else {}
        for example in self._examples:
            n_windows = 0
            for block in self._whole() if example.is_whole else self._stretch(waves[example]):
                n_windows += len(block)
                yield block
            self.counts.append(n_windows)
        try:
            digest = record_of(self._path).sha256
        except OSError as error:  # it was a pipe, or is gone by now
            raise AudioError(f"{self._path}: cannot be read again ({error.strerror}); give a file") from error
        self.keys = [key_of(digest, example.start_s, example.end_s) for example in self._examples]

    def _whole(self) -> Iterator[PreparedWindows]:
        stream = self._embedder.open_recording(self._path)
        yield from stream
        self.duration_s, self.warnings = stream.duration_s, stream.warnings

    def _stretch(self, wave: NDArray[np.float32]) -> Iterator[PreparedWindows]:
        window, most = self._embedder.manifest.window, self._embedder.max_batch
        for block in stream_windows([wave], window, most):
            yield PreparedWindows(
                starts_s=block.starts_s,
                ends_s=block.ends_s,
                padded=block.padded,
                levels_dbfs=block.levels_dbfs,
                inputs=self._embedder.prepare(block.windows),
            )

    def _read(self, examples: Sequence[Example]) -> list[NDArray[np.float32]]:
        """The sound of each stretch: [n_samples] float32 at the window's rate. The file is read once."""
        rate_hz = self._embedder.manifest.window.rate_hz
        warnings: list[str] = []
        stream = MonoStream(self._blocks(warnings), str(self._path), rate_hz, warnings)
        waves = stream.stretches([(example.start_s, example.end_s) for example in examples])
        self.duration_s, self.warnings = stream.duration_s, tuple(warnings)
        for example, wave in zip(examples, waves, strict=True):
            end_s = example.end_s
            if not len(wave) or (end_s is not None and end_s > self.duration_s + PAST_THE_END_S):
                wanted = f"{example.start_s:g} to {'its end' if end_s is None else f'{end_s:g} s'}"
                raise DataError(
                    f"{example.where or self._path}: got {wanted}; the recording ends at {self.duration_s:.3f} s"
                )
        return waves

    def _blocks(self, warnings: list[str]) -> Generator[SampleBlock]:
        """The samples of the file. They end at the stop: nobody takes what becomes of them then."""
        with closing(file_blocks(self._path, None, warnings.append)) as blocks:
            for block in blocks:
                if self._stop.is_set():
                    return
                yield block


def report_skipped(skipped: Sequence[str], most: int = 10) -> None:
    """Warn of examples that could not be used, of the first ones with the reason."""
    for reason in skipped[:most]:
        say(f"warning: {reason}")
    if len(skipped) > most:
        say(f"warning: and {len(skipped) - most} more")
