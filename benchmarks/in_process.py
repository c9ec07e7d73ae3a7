"""The same clips without HTTP: what a server is compared with."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load_report import LoadRow
from serving.audio import decode_audio
from serving.embedder import Embedder, pool

SECONDS = 3.0  # of each measurement
LEAST = 20  # clips, one after the other
WANTED_SHARE = 0.75  # of embed_files's throughput at the most connections
WANTED_MS = 2.0  # more for one clip over HTTP


@dataclass(frozen=True)
class Measured:
    """files_per_second: of `embed_files`; one_ms: file bytes to embedding, the median of one after the other."""

    files_per_second: float
    one_ms: float


class InProcess:
    """An embedder in this process, and the clips as files and as bytes."""

    def __init__(self, bundle: Path, backend: str, clips: Mapping[str, bytes]):
        self._embedder = Embedder.load(bundle, backend)
        self._clips = list(clips.values())
        self._folder = tempfile.TemporaryDirectory(prefix="unheard-load-")
        self._paths = [Path(self._folder.name, f"{i}.audio") for i in range(len(self._clips))]
        for path, data in zip(self._paths, self._clips, strict=True):
            path.write_bytes(data)

    def measure(self) -> Measured:
        """Both, after a round of warm-up."""
        self._embedder.embed_files(self._paths)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            self._embedder.embed_files(self._paths * 4)
            count += 4 * len(self._paths)
        files_per_second = count / (time.perf_counter() - start)
        times: list[float] = []
        while len(times) < LEAST or sum(times) < SECONDS:
            data = self._clips[len(times) % len(self._clips)]
            start = time.perf_counter()
            pool(self._embedder.run(self._embedder.windows(*decode_audio(data))))
            times.append(time.perf_counter() - start)
        return Measured(files_per_second, 1000 * float(np.median(times)))

    def compare(self, before: Measured, after: Measured, rows: Sequence[LoadRow]) -> dict[str, Any]:
        """The server's first and last closed loops beside this process's numbers, the mean of before and after."""
        closed = [row for row in rows if row.loop == "closed"]
        files_per_second = (before.files_per_second + after.files_per_second) / 2
        one_ms = (before.one_ms + after.one_ms) / 2
        share = closed[-1].per_second / files_per_second
        single = closed[0].p50_ms if closed[0].connections == 1 else None
        return {
            "backend": self._embedder.backend,
            "files_per_second": [round(before.files_per_second, 2), round(after.files_per_second, 2)],
            "one_ms": [round(before.one_ms, 3), round(after.one_ms, 3)],
            "connections": closed[-1].connections,
            "http_share": round(share, 3),
            "http_share_reached": share >= WANTED_SHARE,
            "http_adds_ms": None if single is None else round(single - one_ms, 3),
            "http_adds_reached": None if single is None else single - one_ms <= WANTED_MS,
        }

    def told(self, compared: dict[str, Any]) -> str:
        """The comparison in a line."""
        first, last = compared["files_per_second"]
        adds = "" if compared["http_adds_ms"] is None else f"; one clip takes {compared['http_adds_ms']:.2f} ms more"
        return (
            f"in this process ({compared['backend']}) embed_files does {first:g} then {last:g} clips a second: the "
            f"server with {compared['connections']} connections {100 * compared['http_share']:.0f} % of that{adds}"
        )
