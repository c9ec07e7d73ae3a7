"""Audio in, embeddings and ranked labels out: the one class that a Python user needs.

embedder = Embedder.load("bundles/first")
embedder.embed(wave, rate_hz)                                   # [128] float32
embedder.classify(wave, rate_hz)                                # [("dog", 0.93), ...]
embedder.classify(wave, rate_hz, ["dog", "a creaking door"])    # also of what it was never trained on
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from serving.audio import cut_windows, level_dbfs, read_audio, to_mono, warn_in_python
from serving.backends.backend_choice import open_backend, runs_on_gpu
from serving.backends.bundle_runtime import open_front_end
from serving.backends.runtime import Graph, Runtime, Stage
from serving.bundle import Bundle, open_bundle, reopen_bundle
from serving.bundle_files import ZEROSHOT
from serving.cores import usable_cores
from serving.errors import AudioError, UsageError
from serving.files import DecodedFile, embed_each, file_size, list_paths
from serving.manifest import Manifest
from serving.memory import trim_memory
from serving.ranking import Ranking
from serving.text_model.text_model import TextModel
from serving.text_model.text_source import text_source
from serving.zeroshot import ZeroShot

MAX_THREADS = 1024
# Windows in one call of the runtime. On a CPU a larger batch is no faster, and each window takes up to 13 MB.
MAX_BATCH = 8
GPU_MAX_BATCH = 64


@dataclass(frozen=True)
class Opening:
    """What `Embedder.load` was asked for, beside the bundle."""

    backend: str
    precision: str
    threads: int | None
    strict: bool


class Embedder:
    """Joins audio, a runtime, pooling and zero-shot classes. Safe to use from several threads.

    A pickle holds the bundle's folder and hashes and what `load` was asked for: in another process, as multiprocessing
    or a DataLoader starts them, the bundle is opened again. BundleError there where its files are others by then. A
    copy, also a deep one, shares the runtime.
    """

    _opening: Opening | None = None  # None: not made by `load`

    def __init__(self, bundle: Bundle, runtime: Runtime, precision: str, threads: int):
        self.bundle = bundle
        self.runtime = runtime
        self.precision = precision
        self.threads = threads
        self.max_batch = GPU_MAX_BATCH if runs_on_gpu(runtime) else MAX_BATCH
        self.zeroshot = ZeroShot.load(bundle.path(ZEROSHOT))
        self.text_source = text_source(bundle)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        backend: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        strict: bool = False,
    ) -> Self:
        """Open a bundle.

        backend    auto (the fastest that is installed and gives the right numbers), onnxruntime, openvino, tensorrt
        precision  of the model: fp32, fp16 or int8, as far as the bundle has them; bf16 as `open_backend`
        threads    for one inference; None: the physical cores that this process, or its container, may use
        strict     a backend that does not work as asked is an error, not a warning and the next one
        errors     BundleError: missing or changed files; else as `open_backend`; UsageError: fewer than one thread
        """
        if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MAX_THREADS):
            raise UsageError(f"threads: got {threads!r}; wanted 1 to {MAX_THREADS}, or none for all cores")
        return cls._open(open_bundle(folder), Opening(backend, precision, threads, strict))

    @classmethod
    def _open(cls, bundle: Bundle, opening: Opening) -> Self:
        threads = opening.threads or usable_cores()
        model = open_backend(bundle, opening.backend, opening.precision, threads, opening.strict)
        trim_memory()
        embedder = cls(bundle, model, opening.precision, threads)
        embedder._opening = opening
        return embedder

    @classmethod
    def _reopen(cls, bundle: Bundle, opening: Opening) -> Self:
        return cls._open(reopen_bundle(bundle), opening)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._opening is None:
            raise TypeError("only an Embedder that Embedder.load has made can be pickled: others name no backend")
        return type(self)._reopen, (self.bundle.at_absolute_path(), self._opening)

    def __copy__(self) -> Self:
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self.__copy__()

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    @property
    def backend(self) -> str:
        """What runs the network: onnxruntime, openvino or tensorrt."""
        return self.runtime.name

    def windows(self, wave: NDArray[np.floating], rate_hz: float) -> NDArray[np.float32]:
        """Mono, resampled and cut: [n_windows, samples] float32. See `to_mono` and `cut_windows`."""
        window = self.manifest.window
        return cut_windows(to_mono(wave, rate_hz, window.rate_hz), window)

    def run(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed windows [n, samples] float32, n >= 1 -> [n, 128] float32, at most max_batch of them at a time.

        errors   AudioError: another shape or dtype
        """
        samples = self.manifest.window.samples
        if windows.ndim != 2 or not len(windows) or windows.shape[1] != samples or windows.dtype != np.float32:
            raise AudioError(f"windows: got {windows.dtype} {list(windows.shape)}; wanted float32 [n >= 1, {samples}]")
        return self.run_prepared(self.prepare(windows))

    def prepare(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Windows [n, samples] float32 as the runtime's network takes them: [n, ...] float32.

        Their log-mel, where the front end is no part of what the runtime runs; several threads can prepare at a time.
        """
        return self.runtime.front_end(windows)

    @property
    def network(self) -> Graph:
        """What makes embeddings of that which `prepare` gives."""
        return self.runtime.network

    def run_prepared(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed what `prepare` made of n >= 1 windows -> [n, 128] float32, at most max_batch of them at a time."""
        if len(inputs) <= self.max_batch:
            return self.network(inputs)
        return np.concatenate(
            [self.network(part) for part in np.array_split(inputs, -(-len(inputs) // self.max_batch))]
        )

    def embed_windows(self, wave: NDArray[np.floating], rate_hz: float) -> NDArray[np.float32]:
        """Embed each window of a clip.

        wave     [n_samples] or [n_samples, n_channels] float in [-1, 1] at rate_hz
        returns  [n_windows, 128] float32
        errors   AudioError, see `to_mono`
        """
        return self.run(self.windows(wave, rate_hz))

    def embed(self, wave: NDArray[np.floating], rate_hz: float) -> NDArray[np.float32]:
        """Embed a clip: the pooled embeddings of its windows. [128] float32."""
        return pool(self.embed_windows(wave, rate_hz))

    def embed_files(self, paths: Iterable[str | Path]) -> NDArray[np.float32]:
        """Embed files, decoding some while the runtime works on others. [n_files, 128] float32.

        errors   AudioError naming the first file that cannot be used; UsageError: one path in place of a list of them,
                 or something in the list that is no path
        warns    AudioWarning: a file was read only in part
        """
        files = list_paths(paths)
        embeddings = np.empty((len(files), self.manifest.embedding_size), np.float32)
        batch = max(1, min(self.max_batch, -(-len(files) // self.threads)))  # of a few files, some for each thread
        with closing(
            embed_each(files, file_size, self.decode_file, self.run_prepared, batch, self.threads)
        ) as outcomes:
            for row, (_, outcome) in zip(embeddings, outcomes, strict=True):
                if isinstance(outcome, AudioError):
                    raise outcome
                row[:] = pool(outcome.rows)
                for warning in outcome.warnings:
                    warn_in_python(warning)
        return embeddings

    def decode_file(self, path: Path, max_seconds: float | None = None) -> DecodedFile:
        """A file's duration and prepared windows; AudioError naming it, also where it is longer than max_seconds."""
        warnings: list[str] = []
        wave, rate_hz = read_audio(path, max_seconds, warnings.append)
        try:
            windows = self.windows(wave, rate_hz)
        except AudioError as error:
            raise AudioError(f"{path}: {error}") from error
        return DecodedFile(len(wave) / rate_hz, self.prepare(windows), tuple(warnings))

    def classify(
        self,
        wave: NDArray[np.floating],
        rate_hz: float,
        labels: Sequence[str] | None = None,
        offset: float = 0.0,
    ) -> Ranking:
        """Rank labels for a clip.

        labels   classes of this bundle, or any English text ("dog barking") where the bundle has a text model; None:
                 all classes of this bundle
        offset   taken from the scores of classes seen in training (generalised zero-shot)
        returns  (label, probability) pairs, likeliest first; the probabilities sum to 1. Labels as they were given.
                 The list also has `level_dbfs`, `silent` and `unknown_words`, see `Ranking`: silence is ranked too
        errors   AudioError; LabelError: a label that is not known, or one twice; UsageError: an offset beyond scores
        """
        chosen = self.choose(labels)
        windows = self.windows(wave, rate_hz)
        pairs = chosen.rank(pool(self.run(windows)), offset=offset)
        return Ranking(pairs, level_dbfs(windows), self.unknown_words(chosen.class_names))

    def choose(self, labels: Sequence[str] | None = None) -> ZeroShot:
        """The zero-shot map over these labels, see `classify`: it ranks embeddings, and says which classes were seen.

        errors   LabelError: a label that is not known, one twice, or none
        """
        if labels is None:
            return self.zeroshot
        return self.zeroshot.choose(labels, self._encode if self.knows_text else None)

    def unknown_words(self, labels: Sequence[str]) -> dict[str, list[str]]:
        """Of labels that `choose` has taken, those with words that the text model does not know, and these words."""
        typed = [] if not self.knows_text else [label for label in labels if not self.zeroshot.has(label)]
        unknown = {label: self._text_model.unknown_words(self.describe(label)) for label in typed}
        return {label: words for label, words in unknown.items() if words}

    def _encode(self, labels: Sequence[str]) -> NDArray[np.float32]:
        return self._text_model.encode([self.describe(label) for label in labels])

    def describe(self, label: str) -> str:
        """What a label is compared by: the bundle's line on a class that it has one for, else the label itself."""
        return self._text_model.describe(label) if self.knows_text else label

    @property
    def knows_text(self) -> bool:
        """Whether labels may be any text."""
        return self.text_source is not None and self.zeroshot.text_mean is not None

    @cached_property
    def _text_model(self) -> TextModel:
        """Opened when the first label is typed: most programs never need it."""
        return TextModel.load(self.bundle)

    def log_mel(self, wave: NDArray[np.floating], rate_hz: float) -> NDArray[np.float32]:
        """What the network sees of a clip: [n_windows, frames, 64] float32, ln(mel + log_offset), the bundle's."""
        return self._front_end(self.windows(wave, rate_hz))

    @cached_property
    def _front_end(self) -> Stage:
        """The runtime's own, or one that only pictures need and that is opened for the first of them."""
        return open_front_end(self.bundle) if self.runtime.is_one_graph else self.runtime.front_end


def pool(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """A clip's embedding from its windows' [n_windows, 128]: their mean (Xie 2021, arXiv:2011.12133). [128] float32."""
    return rows[0] if len(rows) == 1 else rows.mean(axis=0)


def pool_clips(rows: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """Pool each clip's windows where those of several clips lie end to end.

    rows     [n_windows of all clips, 128];  counts: windows of each clip
    returns  [n_clips, 128] float32
    """
    return np.stack([pool(clip) for clip in np.split(rows, np.cumsum(counts)[:-1])])
