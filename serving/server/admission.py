"""Admission: a queue bounded in seconds of sound and in bytes, so that accepted requests are answered soon."""

import math
import time
from collections import deque
from collections.abc import Callable

from starlette.exceptions import HTTPException

from serving.server.limits import Limits

LENGTH_TOLERANCE = 1.05  # the length in an MP3's header is this inexact
NEWEST_WEIGHT = 0.1  # of the newest request in the running means
INITIAL_TYPICAL_S = 5.0  # assumed sound in a request before the first one
# An upload that brings less than FAST_BYTES in FAST_S comes from a slow sender. Until it is complete, it does not count
# in the queue.
FAST_BYTES, FAST_S = 65_536, 1.0


class Admission:
    """Counts the sound and the bytes of all accepted, unanswered requests. Only the event loop's thread may use it.

    tickets               the number of accepted, unanswered requests
    sound_ms, held_bytes  of all tickets together; integers, so that they return to zero exactly
    draining              if set, no further request is admitted
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.perf_counter):
        self.limits = limits
        self.clock = clock
        self.tickets = 0
        self.sound_ms = 0
        self.held_bytes = 0
        self.draining = False
        self.answer_s = 0.0  # running mean, from a ticket to its end
        self.typical_s = (
            INITIAL_TYPICAL_S  # running mean of the decoded sound of a request, each up to half of the queue
        )
        self._reading: set[Ticket] = set()  # whose sound is not known yet
        self._deferred: deque[Callable[[], None]] = deque()

    @property
    def seconds(self) -> float:
        """The sound of all tickets, in seconds."""
        self.run_deferred()
        return self.sound_ms / 1000

    def defer(self, action: Callable[[], None]) -> None:
        """Let the event loop run this before its next decision. Any thread may call it.

        The event loop is not woken for it: that would take a core from a running model.
        """
        self._deferred.append(action)

    def run_deferred(self) -> None:
        """Run the deferred actions."""
        while self._deferred:
            self._deferred.popleft()()

    def enter(self) -> "Ticket":
        """Admit a request before its body is read.

        errors   HTTPException 429: the queue is full; 503: draining
        """
        if self.draining:
            raise HTTPException(
                503, "the server is shutting down; send the request again", {"retry-after": "1", "connection": "close"}
            )
        seconds = self.seconds  # first: it moves tickets from those that are still read to those whose sound is known
        fast_since = self.clock() - FAST_S
        reading = sum(ticket.progressed > fast_since for ticket in self._reading)
        # Nobody knows yet what these uploads hold: they never take more than half of the queue.
        expected = seconds + min(reading * self.typical_s, self.half_s)
        if expected >= self.limits.queue_seconds:
            raise self.busy(f"about {expected:.0f} s of sound wait")
        return Ticket(self)

    def begin(self, ticket: "Ticket") -> None:
        """Count a new ticket."""
        self.tickets += 1
        self._reading.add(ticket)

    @property
    def half_s(self) -> float:
        """Half of the queue, in seconds: the most that one request counts."""
        return self.limits.queue_seconds / 2

    def set_sound(self, ticket: "Ticket", sound_ms: int) -> None:
        """Replace a ticket's sound by a better estimate."""
        self.sound_ms += sound_ms - ticket.sound_ms
        self._reading.discard(ticket)

    def learn(self, seconds: float) -> None:
        """Include the decoded sound of a request in the running mean. Headers may claim anything."""
        self.typical_s += NEWEST_WEIGHT * (min(seconds, self.half_s) - self.typical_s)

    def end(self, ticket: "Ticket", answered: bool) -> None:
        """Return all that a ticket holds."""
        self.tickets -= 1
        self._reading.discard(ticket)
        self.sound_ms -= ticket.sound_ms
        self.held_bytes -= ticket.held_bytes
        if answered:
            self.answer_s += NEWEST_WEIGHT * (self.clock() - ticket.since - self.answer_s)

    def busy(self, reason: str) -> HTTPException:
        """A 429 whose retry-after is the time that the present queue takes."""
        retry_s = max(1, math.ceil(self.answer_s))
        return HTTPException(429, f"too busy: {reason}; try again in {retry_s} s", {"retry-after": str(retry_s)})


class Ticket:
    """One request's share of the queue: a context manager that returns it at the end.

    decoded_s   the sound that was decoded so far, in seconds
    Each error is an HTTPException 429 and leaves the ticket as it was.
    """

    def __init__(self, admission: Admission):
        self._admission = admission
        self.since = self.progressed = admission.clock()
        self._fresh_bytes = 0
        self.sound_ms = 0
        self.held_bytes = 0
        self.decoded_s = 0.0

    def __enter__(self) -> "Ticket":
        self._admission.begin(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._admission.end(self, answered=kind is None)

    @property
    def seconds(self) -> float:
        """The sound that this request holds, in seconds."""
        return self.sound_ms / 1000

    def hold_bytes(self, count: int) -> None:
        """Hold this many more bytes of the request's body."""
        admission = self._admission
        if admission.held_bytes + count > admission.limits.max_held_bytes:
            raise admission.busy(f"uploads of {admission.held_bytes / 1e6:.0f} MB are held")
        admission.held_bytes += count
        self.held_bytes += count
        self._fresh_bytes += count
        if self._fresh_bytes >= FAST_BYTES:
            self._fresh_bytes = 0
            self.progressed = admission.clock()

    def release_bytes(self) -> None:
        """Return the bytes: the body is decoded and freed."""
        self._admission.held_bytes -= self.held_bytes
        self.held_bytes = 0

    def expect_seconds(self, seconds: float) -> None:
        """Hold the sound that headers claim, which nobody has decoded, up to the sound of a typical request."""
        self._hold(min(seconds, self._admission.typical_s), seconds)

    def hold_seconds(self, seconds: float) -> None:
        """Hold this much decoded sound instead of the amount before, up to half of the queue.

        So a recording longer than that is admitted under load, and leaves the other half to the others.
        """
        self._hold(seconds, seconds)
        self._admission.learn(seconds)

    def _hold(self, seconds: float, told_s: float) -> None:
        """told_s: for the message."""
        admission = self._admission
        admission.run_deferred()
        sound_ms = round(1000 * min(seconds, admission.half_s))
        others_ms = admission.sound_ms - self.sound_ms
        if sound_ms > LENGTH_TOLERANCE * self.sound_ms and others_ms + sound_ms > 1000 * admission.limits.queue_seconds:
            raise admission.busy(f"{others_ms / 1000:g} s of sound wait, and this would add {told_s:g}")
        admission.set_sound(self, sound_ms)
        self.sound_ms = sound_ms
