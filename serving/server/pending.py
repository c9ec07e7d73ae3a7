"""The recordings of one request that wait for the model."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from serving.audio import PreparedRecording
from serving.server.batching import Batched


@dataclass(frozen=True)
class PendingRecording:
    """A recording whose windows were submitted to the batcher."""

    recording: PreparedRecording
    future: Future[Batched]


class PendingRecordings:
    """A context manager that cancels the windows of a request's recordings when the request ends for any reason.

    refusal  the error that ended the request early
    """

    def __init__(self):
        self.submitted: list[PendingRecording] = []
        self.refusal: HTTPException | None = None
        self.ended = False

    def __enter__(self) -> "PendingRecordings":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self, refusal: HTTPException | None = None) -> None:
        """Cancel the windows that no batch has taken yet."""
        self.ended, self.refusal = True, self.refusal or refusal
        for recording in self.submitted:
            recording.future.cancel()  # has no effect on a finished one

    def submit(self, recording: PreparedRecording, submit: Callable[[], Future[Batched]]) -> PendingRecording | None:
        """Submit a recording's windows. None: the request ended while the recording was decoded."""
        if self.ended:
            return None
        self.submitted.append(PendingRecording(recording, submit()))
        return self.submitted[-1]
