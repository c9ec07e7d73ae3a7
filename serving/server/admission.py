"""Who is let in: a queue bounded in seconds of sound and in bytes, so that what is accepted is answered soon."""

import math
import time
from collections import deque
from collections.abc import Callable

from starlette.exceptions import HTTPException

from serving.server.limits import Limits

ROUGHLY = 1.05  # an MP3's header tells its length no better
LATEST = 0.1  # weight of the newest request in the running means
FIRST_GUESS_S = 5.0  # of sound in a request, before any was seen
# An upload that brings less in this time comes from a slow sender, and keeps nobody out until it is whole.
BRISK_BYTES, BRISK_S = 65_536, 1.0


class Admission:
    """Counts the sound and the bytes that are taken in and not yet answered. For the event loop's thread alone.

    tickets               that are out
    sound_ms, held_bytes  of all tickets together; whole milliseconds, so that they come back to zero
    draining              set it, and nothing more is let in
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.perf_counter):
        self.limits = limits
        self.clock = clock
        self.tickets = 0
        self.sound_ms = 0
        self.held_bytes = 0
        self.draining = False
        self.answer_s = 0.0  # running mean, from a ticket to its end
        self.typical_s = FIRST_GUESS_S  # running mean of the sound in a request
        self._reading: set[Ticket] = set()  # those whose sound is not known yet
        self._news: deque[Callable[[], None]] = deque()

    @property
    def seconds(self) -> float:
        """Of sound, with all that was told."""
        self.catch_up()
        return self.sound_ms / 1000

    def tell(self, news: Callable[[], None]) -> None:
        """From any thread, unlike the rest: what the event loop is to do before its next decision.

        It is not woken for it: while a model works, that would take a core from it.
        """
        self._news.append(news)

    def catch_up(self) -> None:
        """Do what was told, in the event loop."""
        while self._news:
            self._news.popleft()()

    def enter(self) -> "Ticket":
        """Let a request in before its body is read.

        errors   HTTPException 429: the queue is full; 503: draining
        """
        if self.draining:
            raise HTTPException(
                503, "the server is shutting down; send the request again", {"retry-after": "1", "connection": "close"}
            )
        brisk_since = self.clock() - BRISK_S
        reading = sum(ticket.progressed > brisk_since for ticket in self._reading)
        expected = self.seconds + reading * self.typical_s
        if expected >= self.limits.queue_seconds:
            raise self.busy(f"about {expected:.0f} s of sound wait")
        return Ticket(self)

    def begin(self, ticket: "Ticket") -> None:
        self.tickets += 1
        self._reading.add(ticket)

    def learn(self, ticket: "Ticket", sound_ms: int) -> None:
        """A ticket's sound is known now, or better than before."""
        self.sound_ms += sound_ms - ticket.sound_ms
        if ticket in self._reading:
            self._reading.remove(ticket)
            self.typical_s += LATEST * (sound_ms / 1000 - self.typical_s)

    def end(self, ticket: "Ticket", answered: bool) -> None:
        self.tickets -= 1
        self._reading.discard(ticket)
        self.sound_ms -= ticket.sound_ms
        self.held_bytes -= ticket.held_bytes
        if answered:
            self.answer_s += LATEST * (self.clock() - ticket.since - self.answer_s)

    def busy(self, reason: str) -> HTTPException:
        """429, with the time in which the queue that is there now will have been worked off."""
        retry_s = max(1, math.ceil(self.answer_s))
        return HTTPException(429, f"too busy: {reason}; try again in {retry_s} s", {"retry-after": str(retry_s)})


class Ticket:
    """One request's share of the queue: a context manager that gives it back at the end.

    Each error is an HTTPException 429 and leaves what was held before.
    """

    def __init__(self, admission: Admission):
        self._admission = admission
        self.since = self.progressed = admission.clock()
        self._fresh_bytes = 0
        self.sound_ms = 0
        self.held_bytes = 0

    def __enter__(self) -> "Ticket":
        self._admission.begin(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._admission.end(self, answered=kind is None)

    @property
    def seconds(self) -> float:
        return self.sound_ms / 1000

    def hold_bytes(self, count: int) -> None:
        """Hold so many bytes more of the request's body."""
        admission = self._admission
        if admission.held_bytes + count > admission.limits.max_held_bytes:
            raise admission.busy(f"uploads of {admission.held_bytes / 1e6:.0f} MB are held")
        admission.held_bytes += count
        self.held_bytes += count
        self._fresh_bytes += count
        if self._fresh_bytes >= BRISK_BYTES:
            self._fresh_bytes = 0
            self.progressed = admission.clock()

    def release_bytes(self) -> None:
        """The body is decoded and let go."""
        self._admission.held_bytes -= self.held_bytes
        self.held_bytes = 0

    def hold_seconds(self, seconds: float) -> None:
        """Hold so much sound instead of what was held.

        A recording longer than half the queue counts as half of it here: under load it would never get in else.
        """
        admission = self._admission
        admission.catch_up()
        sound_ms = round(1000 * seconds)
        others_ms = admission.sound_ms - self.sound_ms
        most_ms = 1000 * admission.limits.queue_seconds
        if sound_ms > ROUGHLY * self.sound_ms and others_ms + min(sound_ms, most_ms / 2) > most_ms:
            raise admission.busy(f"{others_ms / 1000:g} s of sound wait, and this would add {seconds:g}")
        admission.learn(self, sound_ms)
        self.sound_ms = sound_ms
