"""Audio in, embeddings and ranked labels out: the one class that a Python user needs.

embedder = Embedder.load("bundles/first")
embedder.embed(wave, rate_hz)        # [128] float32
embedder.classify(wave, rate_hz)     # [("dog", 0.93), ...]
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.audio import cut_windows, read_audio, to_mono
from serving.backends.onnxruntime import OnnxRuntime
from serving.bundle import Bundle, Manifest, open_bundle
from serving.errors import UsageError
from serving.zeroshot import ZeroShot

BACKENDS = ("auto", "onnxruntime")
MAX_THREADS = 1024
MAX_BATCH = 32  # windows in one call of the runtime: enough to fill two cores, small enough for memory

Runtime = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Embedder:
    """Joins audio, a runtime, pooling and zero-shot classes. Safe to use from several threads."""

    def __init__(self, bundle: Bundle, runtime: Runtime, front_end: Runtime, zeroshot: ZeroShot, backend: str):
        self.bundle = bundle
        self.backend = backend
        self.zeroshot = zeroshot
        self._runtime = runtime
        self._front_end = front_end

    @classmethod
    def load(cls, folder: str | Path, backend: str = "auto", threads: int | None = None) -> "Embedder":
        """Open a bundle.

        backend   "auto" or "onnxruntime"
        threads   for one inference; None: the cores that this process may use
        errors    BundleError: missing or changed files; UsageError: unknown backend, fewer than one thread
        """
        if backend not in BACKENDS:
            raise UsageError(f"backend: got {backend}; wanted one of {', '.join(BACKENDS)}")
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"threads: got {threads}; wanted 1 to {MAX_THREADS}, or none for all cores")
        bundle = open_bundle(folder)
        threads = threads or usable_cores()
        runtime = OnnxRuntime(bundle.path("embedder.onnx"), threads)
        front_end = OnnxRuntime(bundle.path("frontend.onnx"), 1)
        return cls(bundle, runtime, front_end, ZeroShot.load(bundle.path("zeroshot.npz")), runtime.name)

    @property
    def manifest(self) -> Manifest:
        """What the bundle says of itself."""
        return self.bundle.manifest

    @property
    def runtime(self) -> Runtime:
        """What runs the network: waveforms [batch, samples] -> embeddings [batch, 128]."""
        return self._runtime

    def windows(self, wave: NDArray[np.floating], rate_hz: float) -> NDArray[np.float32]:
        """Mono, resampled and cut: [n_windows, samples] float32. See `to_mono` and `cut_windows`."""
        window = self.manifest.window
        return cut_windows(to_mono(wave, rate_hz, window.rate_hz), window)

    def run(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Embed windows [n, samples] float32 -> [n, 128] float32, at most MAX_BATCH at a time."""
        parts = [self._runtime(windows[i : i + MAX_BATCH]) for i in range(0, len(windows), MAX_BATCH)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

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

    def embed_files(self, paths: Sequence[str | Path]) -> NDArray[np.float32]:
        """Embed files, decoding some while the runtime works on others. [n_files, 128] float32.

        errors   AudioError naming the first file that cannot be used
        """
        embeddings = np.empty((len(paths), self.manifest.embedding_size), np.float32)
        pending: list[tuple[int, NDArray[np.float32]]] = []  # files decoded and not yet embedded
        with ThreadPoolExecutor(max_workers=usable_cores()) as threads:
            for index, windows in enumerate(_ahead(threads, self._windows_of, paths)):
                pending.append((index, windows))
                if sum(len(item) for _, item in pending) >= MAX_BATCH:
                    self._embed_pending(pending, embeddings)
        self._embed_pending(pending, embeddings)
        return embeddings

    def _windows_of(self, path: str | Path) -> NDArray[np.float32]:
        return self.windows(*read_audio(path))

    def _embed_pending(self, pending: list[tuple[int, NDArray[np.float32]]], embeddings: NDArray[np.float32]) -> None:
        if not pending:
            return
        rows = self.run(np.concatenate([windows for _, windows in pending]))  # [n_windows, 128]
        embeddings[[index for index, _ in pending]] = pool_clips(rows, [len(windows) for _, windows in pending])
        pending.clear()

    def classify(
        self,
        wave: NDArray[np.floating],
        rate_hz: float,
        labels: Sequence[str] | None = None,
        offset: float = 0.0,
    ) -> list[tuple[str, float]]:
        """Rank labels for a clip.

        labels   classes of this bundle; None: all of them
        offset   taken from the scores of classes seen in training (generalised zero-shot)
        returns  (label, probability) pairs, likeliest first; the probabilities sum to 1
        errors   AudioError; LabelError: a label that the bundle does not know
        """
        return self.zeroshot.rank(self.embed(wave, rate_hz), None if labels is None else list(labels), offset)

    def log_mel(self, wave: NDArray[np.floating], rate_hz: float) -> NDArray[np.float32]:
        """What the network sees of a clip: [n_windows, frames, 64] float32, natural log of (mel + 0.01)."""
        return self._front_end(self.windows(wave, rate_hz))


def pool(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """A clip's embedding from its windows' [n_windows, 128]: their mean (Xie 2021, arXiv:2011.12133). [128] float32."""
    return rows.mean(axis=0)


def pool_clips(rows: NDArray[np.float32], counts: Sequence[int]) -> NDArray[np.float32]:
    """Pool each clip's windows where those of several clips lie end to end.

    rows     [n_windows of all clips, 128];  counts: windows of each clip
    returns  [n_clips, 128] float32
    """
    return np.stack([pool(clip) for clip in np.split(rows, np.cumsum(counts)[:-1])])


def usable_cores() -> int:
    """The cores that this process may run on, which in a container can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ahead(
    threads: ThreadPoolExecutor, work: Callable[[str | Path], NDArray[np.float32]], paths: Sequence[str | Path]
) -> Iterator[NDArray[np.float32]]:
    """Results of work(path) in order, a bounded number of them worked on ahead of the consumer."""
    queue: deque[Future[NDArray[np.float32]]] = deque()
    for path in paths:
        queue.append(threads.submit(work, path))
        if len(queue) > 2 * MAX_BATCH:
            yield queue.popleft().result()
    while queue:
        yield queue.popleft().result()
