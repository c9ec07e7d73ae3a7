"""How many gRPC messages may arrive at the same time: gRPC's library tells of a message only when it is whole."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException

SPARED_S = 1.0  # an upload of this age or less is not ended for another one


class UploadSlots:
    """A number of uploads that are read at the same time. For a further one, the oldest is ended if it is slow.

    So slow senders cannot keep others out, as with connections.
    """

    def __init__(self, most: int):
        self.most = most
        self._since: dict[asyncio.Timeout, float] = {}  # oldest first

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Hold a slot. HTTPException 429: there is none, or the upload was ended for another one."""
        now = asyncio.get_running_loop().time()
        if len(self._since) >= self.most:
            oldest, since = next(iter(self._since.items()))
            if now - since <= SPARED_S:
                raise HTTPException(429, f"{self.most} messages arrive, the most at a time; try again in 1 s", RETRY)
            del self._since[oldest]
            oldest.reschedule(now)
        slot = asyncio.timeout(None)
        try:
            async with slot:
                self._since[slot] = now
                yield
        except TimeoutError as error:
            if not slot.expired():
                raise
            message = f"{self.most} messages arrive, the most at a time, and this one was the slowest; try again in 1 s"
            raise HTTPException(429, message, RETRY) from error
        finally:
            self._since.pop(slot, None)


RETRY = {"retry-after": "1"}
