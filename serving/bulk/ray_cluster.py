"""The bulk job on Ray Data, for several machines: the optional extra `ray`.

Each worker embeds whole parts with one CPU. It sends them back, and the machine that runs the command saves them.
"""

import importlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from serving.bulk.job_progress import Worked
from serving.bulk.parquet_rows import write_part
from serving.bulk.recordings_folder import FolderEmbedder
from serving.bulk.resumable_job import ResumableJob
from serving.errors import UnheardError, UsageError, one_line
from serving.extras import pip_install


class PartWorker:
    """A worker process with its own embedder: first number and file names of a part -> its Parquet file."""

    def __init__(self, source: FolderEmbedder):
        self._source = source

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """first, names (JSON, as a name need not be UTF-8) -> first, content, seconds of sound, error ("": none)."""
        sink = BytesIO()
        try:
            seconds = write_part(sink, self._source.row_maker, self._source.embed(json.loads(row["names"])))
        except UnheardError as error:  # returned, because Ray wraps exceptions in long traces
            return {"first": row["first"], "content": b"", "seconds": 0.0, "error": str(error)}
        return {"first": row["first"], "content": sink.getvalue(), "seconds": seconds, "error": ""}


def work_on_ray(job: ResumableJob, source: FolderEmbedder, address: str) -> Iterator[Worked]:
    """Finish all parts on a cluster; yield what each finished part held.

    address  HOST:PORT of a cluster that includes this machine; all its machines need this program, and the bundle and
             the recordings under the same paths. local: a cluster on this machine with a worker for each thread
    errors   UsageError: Ray is not installed, no cluster answers, or its workers cannot open the bundle
    """
    sizes = {part.first: part.size for part in job.missing()}
    if not sizes:
        return
    with _ray(address, source.threads) as ray:
        items = [{"first": part.first, "names": json.dumps(part.names)} for part in job.missing()]
        workers = min(len(items), int(ray.cluster_resources().get("CPU", 1)))
        # One block for each part: each worker takes the next one, and a lost worker loses one part.
        parts = ray.data.from_items(items, override_num_blocks=len(items)).map(
            PartWorker,
            fn_constructor_args=(replace(source, threads=1),),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
        )
        for row in parts.iter_rows():
            if row["error"]:
                raise UsageError(f"a worker of Ray: {row['error']}")
            first, content = row["first"], row["content"]
            size = sizes[first]
            job.save(first, partial(_write_content, content, first + size.files))
            yield Worked(size.files, size.bytes, row["seconds"])


def _write_content(content: bytes, end: int, path: Path) -> int:
    path.write_bytes(content)
    return end


@contextmanager
def _ray(address: str, workers: int) -> Iterator[Any]:
    """Connect to the cluster, yield the ray module, and disconnect."""
    # Ray reads these at its import: the first turns its telemetry off, the second most of its log.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")  # otherwise the workers run at low priority
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError as error:
        raise UsageError(f"--ray: Ray is not installed; get it with: {pip_install('ray')}") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        _check_address(address)
    try:
        ray.init(address, **options)
    except (ConnectionError, ValueError) as error:
        reason = one_line(error)
        raise UsageError(
            f"--ray {address}: the cluster refuses the connection ({reason}); start one, set RAY_AUTH_MODE=token if it "
            "requires a token, or use --ray local"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False  # the command shows its own
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise UsageError if nothing listens at HOST:PORT: Ray itself would wait for many minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise UsageError(
            f"--ray: got {address}; wanted local, or the HOST:PORT of a cluster of which this machine is one"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--ray {address}: no cluster answers there ({reason}); start one, or --ray local") from error
