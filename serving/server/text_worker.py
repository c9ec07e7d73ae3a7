"""The text model of the server: a thread of its own that encodes typed labels, a few at a time."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.embedder import Embedder
from serving.server.thread_priority import TEXT_NICE, lower_thread_priority

# Characters of labels that may wait: two requests with as many labels as their headers can hold, or 5 s of work for one
# core. Characters, because the text model's time grows with them.
MAX_WAITING = 65_536
LABELS_AT_A_TIME = 8  # between two of these, other requests have their turn and a cancelled one ends


@dataclass(frozen=True)
class TypedLabels:
    """The text vectors of labels [n, text_size] float32, and the words of each that the text model does not know."""

    vectors: NDArray[np.float32]
    unknown_words: dict[str, list[str]]


class TextWorker:
    """Runs an embedder's text model for requests. Its coroutines run in one event loop.

    busy     makes the error for a request whose labels do not fit into the queue
    waiting  characters of labels that are not encoded yet
    """

    def __init__(self, embedder: Embedder, busy: Callable[[str], Exception]):
        self._embedder = embedder
        self._busy = busy
        self.waiting = 0
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="text", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Drop what waits and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    async def encode(self, labels: Sequence[str]) -> TypedLabels:
        """Encode labels, n >= 1. A cancelled call gives up the labels that the thread has not begun.

        errors   that of `busy`; LabelError: the text model knows no word of a label
        """
        size = sum(map(len, labels))
        if self.waiting and self.waiting + size > MAX_WAITING:
            raise self._busy(f"labels of {self.waiting} characters wait for the text model")
        self.waiting += size
        try:
            parts = [
                await asyncio.wrap_future(self.submit(_encoding(self._embedder, labels[i : i + LABELS_AT_A_TIME])))
                for i in range(0, len(labels), LABELS_AT_A_TIME)
            ]
        finally:
            self.waiting -= size
        unknown_words = {label: words for part in parts for label, words in part.unknown_words.items()}
        return TypedLabels(np.concatenate([part.vectors for part in parts]), unknown_words)

    def submit(self, work: Callable[[], Any], first: bool = False) -> Future[Any]:
        """Run work in the thread. first: before all other work that waits. Cancelling the future drops the work."""
        future: Future[Any] = Future()
        with self._changed:
            if self._closed:
                future.cancel()
                return future
            self._jobs.appendleft((future, work)) if first else self._jobs.append((future, work))
            self._changed.notify()
        return future

    def _work(self) -> None:
        lower_thread_priority(TEXT_NICE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if self._closed:
                    for future, _ in self._jobs:
                        future.cancel()
                    return
                future, work = self._jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except Exception as error:  # of any kind: the thread must survive it, and the request must receive it
                future.set_exception(error)


def _encoding(embedder: Embedder, labels: Sequence[str]) -> Callable[[], TypedLabels]:
    return lambda: TypedLabels(embedder.labels.encode(labels), embedder.labels.unknown_words(labels))
