"""The bulk job on Ray Data, for those who outgrow one machine: an optional extra, pip install "unheard[ray]".

Each worker embeds whole parts with one CPU; the parts come back and are saved where the command runs.
"""

import importlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import Any

from serving.errors import UnheardError, UsageError
from serving.folder import FolderEmbedder
from serving.job import Job
from serving.rows import write_part


class PartWorker:
    """One process of the cluster, with its own embedder: a part's number and names -> its Parquet file."""

    def __init__(self, source: FolderEmbedder):
        self._source = source

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """part: number; names: JSON, for a name need not be text -> part; content: bytes; error: "", or why not."""
        sink = BytesIO()
        try:
            write_part(sink, self._source.rows, self._source.embed(json.loads(row["names"])))
        except UnheardError as error:  # as a value: Ray would wrap it in pages
            return {"part": row["part"], "content": b"", "error": str(error)}
        return {"part": row["part"], "content": sink.getvalue(), "error": ""}


def work_on_ray(job: Job, source: FolderEmbedder, address: str) -> Iterator[int]:
    """Finish all parts on a cluster; tells how many files each has.

    address  HOST:PORT of a cluster: this machine is one of it, and all of them have this program and see the bundle
             and the recordings under the same names; local: one of as many workers as the source has threads, here
    errors   UsageError: Ray is not installed, no cluster answers there, or its workers cannot open the bundle
    """
    sizes = {part: len(names) for part, names in job.missing()}
    if not sizes:
        return
    with _ray(address, source.threads) as ray:
        items = [{"part": part, "names": json.dumps(names)} for part, names in job.missing()]
        workers = min(len(items), int(ray.cluster_resources().get("CPU", 1)))
        # A block for each part: a worker takes one after the other, and a lost one costs one part.
        parts = ray.data.from_items(items, override_num_blocks=len(items)).map(
            PartWorker,
            fn_constructor_args=(replace(source, threads=1),),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
        )
        for row in parts.iter_rows():
            if row["error"]:
                raise UsageError(f"a worker of Ray: {row['error']}")
            job.save(row["part"], lambda path, content=row["content"]: path.write_bytes(content))
            yield sizes[row["part"]]


@contextmanager
def _ray(address: str, workers: int) -> Iterator[Any]:
    """The ray module, connected; disconnected in the end."""
    # Read at the import: without the first it reports its use to its makers, with the second it is less talkative.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if address == "local":
        os.environ.setdefault("RAY_worker_niceness", "0")  # its workers step back for everything else
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError as error:
        raise UsageError('--ray: Ray is not installed; get it with: pip install "unheard[ray]"') from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        options |= {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    else:
        _knock(address)
    try:
        ray.init(address, **options)
    except (ConnectionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"--ray {address}: no cluster lets us in ({reason}); start one, set RAY_AUTH_MODE=token for one that wants "
            "a token, or --ray local"
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False  # the command has its own
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """UsageError where nothing listens at HOST:PORT: Ray itself would wait for many minutes."""
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
