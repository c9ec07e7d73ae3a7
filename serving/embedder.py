"""Embed recordings and rank labels for them: the one class that a Python user needs.

embedder = Embedder.load("bundles/first")
embedder.embed(wave, rate_hz)                                   # [128] float32
embedder.classify(wave, rate_hz)                                # [("dog", 0.93), ...]
embedder.classify(wave, rate_hz, ["dog", "a creaking door"])    # also classes that it was not trained on
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from serving.audio import PreparedRecording, Recording, RecordingStream, level_dbfs, warn_in_python
from serving.backends.backend_choice import runs_on_gpu
from serving.backends.bundle_runtime import open_front_end
from serving.backends.runtime import Graph, Runtime, Stage
from serving.bulk.embed_files import list_paths
from serving.bundle.bundle import Bundle, open_bundle, reopen_bundle
from serving.bundle.bundle_files import ZEROSHOT
from serving.bundle.manifest import Manifest
from serving.embedding_stream import EmbeddingStream
from serving.errors import AudioError, UsageError
from serving.memory import trim_memory
from serving.pooling import pool, pool_heard
from serving.runtime_choice import RuntimeChoice
from serving.shared_copy import SharedCopy
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_space import LabelSpace
from serving.zeroshot.ranking import Ranking, rank_embedding
from serving.zeroshot.zeroshot_file import parse_zeroshot

if TYPE_CHECKING:
    from serving.teaching.lesson import Lesson

# Windows in one call of the runtime. On a CPU a larger batch is not faster, and each window needs up to 13 MB.
MAX_BATCH = 8
GPU_MAX_BATCH = 64


class Embedder(SharedCopy):
    """Joins audio, a runtime, pooling and zero-shot classes. Safe to use from several threads.

    A pickle holds the bundle's folder and hashes and the arguments of `load`. A process that reads it, such as a worker
    of multiprocessing or of a DataLoader, opens the bundle again; BundleError there if the files have changed. A copy,
    also a deep one, shares the runtime.
    """

    _choice: RuntimeChoice | None = None  # None: not made by `load`
    lesson: "Lesson | None" = None  # what `teach` taught it

    def __init__(self, bundle: Bundle, runtime: Runtime, precision: str, threads: int):
        self.bundle = bundle
        self.runtime = runtime
        self.precision = precision
        self.threads = threads
        self.max_batch = GPU_MAX_BATCH if runs_on_gpu(runtime) else MAX_BATCH
        zeroshot = parse_zeroshot(bundle.read(ZEROSHOT), str(bundle.path(ZEROSHOT)), bundle.manifest.embedding_size)
        self.labels = LabelSpace(bundle, zeroshot)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        strict: bool = False,
        trusted: Sequence[Path] = (),
    ) -> Self:
        """Open a bundle.

        backend    auto (the fastest that is installed and gives correct results), onnxruntime, openvino, tensorrt
        precision  of the model: fp32, fp16 or int8, if the bundle has it; bf16 as `open_backend`
        threads    for one inference; None: the physical cores that this process or its container may use
        strict     if the chosen backend does not work, raise its error instead of warning and trying the next one
        trusted    files with public keys: only a bundle that one of them has signed is opened; none: any bundle is
        errors     BundleError: missing or changed files, or not signed so; UsageError: fewer than one thread;
                   otherwise as `open_backend`
        """
        choice = RuntimeChoice(backend, precision, threads, strict)
        return cls._open(open_bundle(folder, trusted), choice)

    @classmethod
    def _open(cls, bundle: Bundle, choice: RuntimeChoice) -> Self:
        runtime, threads = choice.open(bundle)
        trim_memory()
        embedder = cls(bundle, runtime, choice.precision, threads)
        embedder._choice = choice
        return embedder

    @classmethod
    def _reopen(cls, bundle: Bundle, choice: RuntimeChoice, lesson: "Lesson | None" = None) -> Self:
        embedder = cls._open(reopen_bundle(bundle), choice)
        return embedder if lesson is None else embedder._after(lesson)

    def _after(self, lesson: "Lesson") -> Self:
        """A copy that knows what was taught; it shares the runtime."""
        other = copy.copy(self)
        other.lesson, other.labels = lesson, self.labels.with_zeroshot(lesson.zeroshot)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        if self._choice is None:
            raise TypeError(
                "only an Embedder that Embedder.load has made can be pickled: others do not know their backend"
            )
        return type(self)._reopen, (self.bundle.at_absolute_path(), self._choice, self.lesson)

    @property
    def choice(self) -> RuntimeChoice | None:
        """How its runtime was opened; None: not by `load`, so another process cannot open the same one."""
        return self._choice

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def zeroshot(self) -> ZeroShot:
        """The zero-shot map of the bundle's classes, and of those that were taught."""
        return self.labels.zeroshot

    @property
    def backend(self) -> str:
        """Name of the runtime: onnxruntime, openvino or tensorrt."""
        return self.runtime.name

    def windows(
        self, wave: NDArray[np.floating], rate_hz: float, hop_seconds: float | None = None
    ) -> NDArray[np.float32]:
        """Mix to mono, resample and cut: [n_windows, samples] float32. See `to_mono` and `cut_windows`.

        hop_seconds   as for `embed_windows`
        """
        window = self.manifest.window.with_hop(hop_seconds)
        return Recording.from_samples(wave, rate_hz, window.rate_hz).windows(window)

    def run(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed windows [n, samples] float32, n >= 1 -> [n, 128] float32, at most max_batch of them at a time.

        errors   AudioError: another shape or dtype
        """
        samples = self.manifest.window.samples
        if windows.ndim != 2 or not len(windows) or windows.shape[1] != samples or windows.dtype != np.float32:
            raise AudioError(f"windows: got {windows.dtype} {list(windows.shape)}; wanted float32 [n >= 1, {samples}]")
        return self.run_prepared(self.prepare(windows))

    def prepare(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows [n, samples] float32 -> the input of the runtime's network [n, ...] float32.

        This is their log-mel, or the windows themselves if the graph contains the front end. Thread-safe.
        """
        return self.runtime.front_end(windows)

    @property
    def network(self) -> Graph:
        """The runtime's network: what `prepare` returns -> embeddings."""
        return self.runtime.network

    def run_prepared(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed prepared windows [n >= 1, ...] -> [n, 128] float32, at most max_batch of them at a time.

        A network that splits batches itself gets all of them.
        """
        if len(inputs) <= self.max_batch or getattr(self.network, "splits_batches", False):
            return self.network(inputs)
        return np.concatenate(
            [self.network(part) for part in np.array_split(inputs, -(-len(inputs) // self.max_batch))]
        )

    def embed_windows(
        self, wave: NDArray[np.floating], rate_hz: float, hop_seconds: float | None = None
    ) -> NDArray[np.float32]:
        """Embed each window of a clip.

        wave         [n_samples] or [n_samples, n_channels] float in [-1, 1] at rate_hz
        hop_seconds  from the start of a window to the start of the next one; None: as trained, without an overlap
        returns      [n_windows, 128] float32
        errors       AudioError, see `to_mono`; UsageError: hop_seconds is not above 0, or above a window
        """
        return self.run(self.windows(wave, rate_hz, hop_seconds))

    def embed(self, wave: NDArray[np.floating], rate_hz: float) -> NDArray[np.float32]:
        """Embed a clip: the mean of the embeddings of its windows. [128] float32."""
        return pool(self.embed_windows(wave, rate_hz))

    def embed_files(self, paths: Iterable[str | Path], processes: int | None = None) -> NDArray[np.float32]:
        """Embed files; some are decoded while the runtime works on others. [n_files, 128] float32.

        processes  that share the work; 1: threads of this process; None: one for each thread if
                   they are more than 4, the files are many and memory allows
        errors   AudioError naming the first file that cannot be used; UsageError: a single path instead of a list, or
                 an item that is not a path, or a wrong number of processes
        warns    AudioWarning: a file was read only in part
        """
        files = list_paths(paths)
        embeddings = np.empty((len(files), self.manifest.embedding_size), np.float32)
        from serving.bulk.pooled_files import pool_files  # here, because it imports this module

        with closing(pool_files(self, files, processes)) as pooled:
            for row, file in zip(embeddings, pooled, strict=True):
                if isinstance(file, AudioError):
                    raise file
                row[:] = file.embedding
                for warning in file.warnings:
                    warn_in_python(warning)
        return embeddings

    def stream(
        self, path: str | Path, hop_seconds: float | None = None, max_seconds: float | None = None
    ) -> EmbeddingStream:
        """Embed the windows of a recording of any length in constant memory.

        hop_seconds  as for `embed_windows`
        max_seconds  longest recording; None: no limit
        returns      an iterator over `StreamedWindows`: up to max_batch consecutive windows with their times, levels
                     and embeddings. At its end it has the recording's duration_s, rate_hz, channels and warnings
        errors       UsageError: hop_seconds is not above 0, or above a window. While iterating, AudioError naming the
                     file: nothing of it can be read. A file that breaks off later gives the windows before, and a
                     warning with the time. DurationError: it is longer than max_seconds, perhaps after some blocks
        """
        return EmbeddingStream(self.open_recording(path, hop_seconds, max_seconds), self.run_prepared)

    def open_recording(
        self, path: str | Path, hop_seconds: float | None = None, max_seconds: float | None = None
    ) -> RecordingStream:
        """The prepared windows of a file, up to max_batch at a time; arguments and errors as `stream`."""
        window = self.manifest.window.with_hop(hop_seconds)
        return RecordingStream(path, window, self.max_batch, self.prepare, max_seconds)

    def prepare_file(self, path: Path, max_seconds: float | None = None) -> PreparedRecording:
        """Decode a file and prepare its windows, see `Recording`.

        errors   AudioError naming the file, also if it is longer than max_seconds
        """
        window = self.manifest.window
        return Recording.from_file(path, window.rate_hz, max_seconds).prepare(window, self.prepare)

    def prepare_bytes(self, data: bytes, name: str, max_seconds: float | None = None) -> PreparedRecording:
        """As `prepare_file`, for the bytes of an audio file. name: for messages."""
        window = self.manifest.window
        return Recording.from_bytes(data, name, window.rate_hz, max_seconds).prepare(window, self.prepare)

    def classify(
        self,
        wave: NDArray[np.floating],
        rate_hz: float,
        labels: Sequence[str] | None = None,
        offset: float | None = None,
        hop_seconds: float | None = None,
    ) -> Ranking:
        """Rank labels for a clip. Its silent windows do not count.

        labels   classes of this bundle, or any English text ("dog barking") if the bundle has a text model; None: all
                 classes of this bundle
        offset   subtracted from the scores of classes seen in training (generalised zero-shot); None: the bundle's own
                 for these labels, which is 0 where the training chose none
        hop_seconds   as for `embed_windows`
        returns  (label, probability) pairs, most probable first; the probabilities sum to 1. Labels are unchanged. The
                 list also has `none_of_these`, `similarities`, `level_dbfs`, `silent` and `unknown_words`, see
                 `Ranking`: every sound is ranked, also one that is none of the labels
        errors   AudioError; LabelError: an unknown or repeated label; UsageError: an offset beyond all scores
        """
        chosen = self.choose(labels)
        windows = self.windows(wave, rate_hz, hop_seconds)
        unknown_words = self.labels.unknown_words(chosen.class_names)
        levels = [level_dbfs(each) for each in windows]
        return rank_embedding(chosen, pool_heard(self.run(windows), levels), max(levels), unknown_words, offset)

    def teach(
        self,
        examples: Mapping[str, Sequence[str | Path | tuple[NDArray[np.floating], float]]],
        descriptions: Mapping[str, str] | None = None,
    ) -> Self:
        """Teach classes by examples, descriptions or both. Nothing is trained: the embeddings stay as they are.

        examples      label -> paths of recordings, or (samples, rate in Hz) as for `embed`
        descriptions  label -> what it sounds like; needs a text model. Labels need not have examples
        returns       a new Embedder that ranks the new classes too; it shares the runtime. Its `lesson` has the scores
                      on held-out examples, and warnings; `save` writes it as a bundle
        errors        see `serving.teaching.lesson.teach`
        """
        from serving.teaching.examples import listed_examples  # they need this module
        from serving.teaching.lesson import Descriptions, teach

        given = dict(descriptions or {})
        return self._after(teach(self, listed_examples(examples), Descriptions(tuple(given), given)))

    def save(self, out: str | Path, overwrite: bool = False) -> None:
        """Write what `teach` returned as a bundle, whole or not at all.

        errors   UsageError: nothing was taught, or `out` exists and must not be replaced
        """
        from serving.teaching.taught_bundle import write_taught_bundle  # it needs this module

        if self.lesson is None:
            raise UsageError(f"{self.bundle.folder}: was taught nothing; copy the folder instead")
        write_taught_bundle(self.bundle, self.lesson, Path(out), overwrite)

    def choose(self, labels: Sequence[str] | None = None, descriptions: Mapping[str, str] | None = None) -> ZeroShot:
        """The zero-shot map for these labels, see `LabelSpace.choose`: it ranks embeddings."""
        return self.labels.choose(labels, descriptions)

    def warm_up(self) -> None:
        """Let the runtime open now what its first calls would open: on a GPU, batches of each size."""
        if warm_up := getattr(self.network, "warm_up", None):
            warm_up()

    def log_mel(self, wave: NDArray[np.floating], rate_hz: float) -> NDArray[np.float32]:
        """The log-mel of a clip, as the network sees it: [n_windows, frames, 64] float32, ln(mel + log_offset)."""
        return self._front_end(self.windows(wave, rate_hz))

    @cached_property
    def _front_end(self) -> Stage:
        """The runtime's front end; if the graph contains it, a separate one for pictures, opened on first use."""
        return open_front_end(self.bundle) if self.runtime.is_one_graph else self.runtime.front_end
