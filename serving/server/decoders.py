"""Processes that decode uploads: the threads of one process take turns with Python's lock, processes do not.

A decoder thread of the server sends the bytes of an upload to a process of its own through shared memory, waits, and
gets back what the network takes. The network stays in the server.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from queue import LifoQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.audio import PreparedRecording, Window
from serving.backends.runtime import Stage
from serving.bulk.processes import FEWEST_WINDOWS, choose_processes
from serving.bulk.worker_process import WorkerProcess
from serving.cores import usable_cores
from serving.errors import AudioError, BackendError
from serving.server.decode_job import DecodeJob, DecodePiece
from serving.server.limits import Limits
from serving.server.shared_file import SharedFile

logger = logging.getLogger(__name__)

# A process takes 20 to 40 MB of its own, and more while it decodes a long recording.
DECODER_BYTES = 200_000_000


def choose_decoders(limits: Limits) -> int:
    """The number of processes that decode: as asked for, or one for each core from 5 on, as memory allows."""
    decodes = limits.max_decodes or usable_cores()
    if limits.processes is None and not hasattr(os, "memfd_create"):  # Linux has it
        return 1
    return choose_processes(limits.processes, decodes, FEWEST_WINDOWS, process_bytes=DECODER_BYTES)


class Decoders:
    """Processes that decode, each one recording at a time. Any thread may use them.

    count    number of processes
    on_end   called when a process has ended that should not have
    errors   BackendError: a process ends at its start
    """

    def __init__(self, window: Window, front_end: Stage, count: int, on_end: Callable[[], object] = lambda: None):
        self.count = count
        self._all = [_Decoder(window, front_end, on_end) for _ in range(count)]
        self._idle: LifoQueue[_Decoder] = LifoQueue()  # the last one used first: its memory is in the CPU's cache
        try:
            for decoder in self._all:
                decoder.start()  # all at the same time
            for decoder in self._all:
                decoder.wait_until_ready()
                self._idle.put(decoder)
        except BaseException:
            self.close()
            raise

    def prepare(self, data: bytes, name: str, max_seconds: float) -> PreparedRecording:
        """As `Embedder.prepare_bytes`, in the next process that is free.

        errors   AudioError: as there, or two processes ended with the recording; BackendError: a process cannot start
        """
        decoder = self._idle.get()
        try:
            return decoder.prepare(data, name, max_seconds)
        finally:
            self._idle.put(decoder)

    def close(self) -> None:
        """End the processes."""
        for decoder in self._all:
            decoder.close()


class _Decoder:
    """A process that decodes, and another one in its place if it ends."""

    def __init__(self, window: Window, front_end: Stage, on_end: Callable[[], object]):
        self._on_end = on_end
        self._memory = SharedFile()
        self._job = DecodeJob(self._memory, window, front_end)
        self._process: WorkerProcess | None = None
        self._is_ready = False

    def start(self) -> None:
        self._process, self._is_ready = WorkerProcess(self._job, inherited=[self._memory.descriptor]), False

    def wait_until_ready(self) -> None:
        """BackendError: the process ends at its start."""
        if self._process is None:
            self.start()
        if not self._is_ready:
            try:
                self._receive()
            except _EndedError as error:
                raise BackendError(
                    f"a process that decodes ended at its start ({error}); free memory, or take --processes 1"
                ) from error
            self._is_ready = True

    def prepare(self, data: bytes, name: str, max_seconds: float) -> PreparedRecording:
        try:
            return self._prepare(data, name, max_seconds)
        except _EndedError as error:
            logger.warning("a process that decodes ended; the recording is decoded again", extra=_about(name, error))
        try:
            return self._prepare(data, name, max_seconds)
        except _EndedError as error:
            logger.error("a process that decodes ended again with the same recording", extra=_about(name, error))
            self.start()
            raise AudioError(f"{name}: cannot be read (a process that read it ended twice, {error})") from error

    def close(self) -> None:
        if self._process:
            self._process.end()
            self._process = None
        self._memory.close()

    def _prepare(self, data: bytes, name: str, max_seconds: float) -> PreparedRecording:
        self.wait_until_ready()
        assert self._process is not None
        try:
            piece: DecodePiece = (self._memory.write(data), name, max_seconds)
            self._process.send(piece)
            prepared, shape = self._receive()
            inputs: NDArray[np.float32] = np.empty(shape, np.float32)
            self._memory.read_into(inputs)
            return replace(prepared, inputs=inputs)
        finally:
            self._memory.clear()

    def _receive(self) -> Any:
        """The next result of the process. errors: _EndedError: it has ended; else what was raised there"""
        assert self._process is not None
        try:
            kind, content = self._process.connection.recv()
        except (EOFError, OSError) as error:
            how = self._process.end()
            self._process = None
            self._on_end()
            raise _EndedError(how) from error
        if kind == "error":
            raise content
        return content


class _EndedError(Exception):
    """A process has ended. Its message says how."""


def _about(name: str, error: _EndedError) -> dict[str, str]:
    return {"file": name, "ended_by": str(error)}
