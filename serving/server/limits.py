"""The server's limits. Each is a flag of `python -m serving`."""

from dataclasses import dataclass, fields
from functools import cached_property

from serving.bulk.processes import MOST_PROCESSES
from serving.cores import usable_cores
from serving.errors import UsageError

# Half a second of work for yamnet-compact on two cores: 36 recordings of 5 s.
QUEUE_SECONDS_PER_CORE = 90.0
LARGEST_LIMIT = 1e9  # megabytes and seconds; computations with it do not overflow


@dataclass(frozen=True)
class Limits:
    """The limits of one request, and of all requests together."""

    max_upload_mb: float = 50.0
    """largest request body, in megabytes of 1 000 000 bytes, compressed and decompressed; else 413"""
    max_held_mb: float = 500.0
    """most of all request bodies in memory, in megabytes, and no less than --max-upload-mb; else 429"""
    max_seconds: float = 300.0
    """most sound in one request, all its files together, in seconds; else 413"""
    max_queue_seconds: float | None = None
    """most sound of accepted, unanswered requests, in seconds; a recording over half of it counts as half; else
    429; default: 90 for each core, and no less than 180"""
    max_decodes: int | None = None
    """recordings decoded at the same time, the others wait; default: the number of cores"""
    processes: int | None = None
    """processes that decode uploads, each one recording at a time; 1: threads of the server; default: --max-decodes, if
    they are more than 4 and memory allows, else 1"""
    request_timeout_s: float = 30.0
    """from the first byte of a request to its answer, and for a client to read the answer, in seconds; else 408
    (slow upload), 503 (slow server), or the connection is closed"""
    max_connections: int = 1000
    """most open connections; for a further one the longest idle is closed, and if none is idle, the new one gets 503"""
    max_batch: int | None = None
    """most windows in one call of the model; default: 8 on a CPU, where more are no faster, 64 on a GPU"""
    max_wait_ms: float = 2.0
    """longest that a busy model waits for a batch to fill, in ms from its first window; an idle one never waits"""

    @property
    def max_upload_bytes(self) -> int:
        return round(self.max_upload_mb * 1_000_000)

    @property
    def max_held_bytes(self) -> int:
        return round(self.max_held_mb * 1_000_000)

    @cached_property  # usable_cores reads /sys
    def queue_seconds(self) -> float:
        return self.max_queue_seconds or QUEUE_SECONDS_PER_CORE * max(2, usable_cores())

    def check(self) -> None:
        """Check all ranges, and that no limit rules another one out. errors: UsageError, which names the flag"""
        for field in fields(self):
            value = getattr(self, field.name)
            flag = "--" + field.name.replace("_", "-")
            if field.name == "max_wait_ms":
                if not 0 <= value <= 1000:
                    raise UsageError(f"{flag}: got {value:g}; wanted 0 to 1000")
            elif field.name in ("max_decodes", "max_batch"):
                if value is not None and not 1 <= value <= 1024:
                    raise UsageError(f"{flag}: got {value}; wanted 1 to 1024")
            elif field.name == "processes":
                if value is not None and not 1 <= value <= MOST_PROCESSES:
                    raise UsageError(f"{flag}: got {value}; wanted 1 to {MOST_PROCESSES}")
            elif field.name == "max_connections":
                if not 1 <= value <= 100_000:
                    raise UsageError(f"{flag}: got {value}; wanted 1 to 100000")
            elif value is not None and not 0 < value <= LARGEST_LIMIT:
                raise UsageError(f"{flag}: got {value:g}; wanted a positive number up to {LARGEST_LIMIT:g}")
        if self.max_held_mb < self.max_upload_mb:
            raise UsageError(
                f"--max-held-mb: got {self.max_held_mb:g}; wanted at least --max-upload-mb ({self.max_upload_mb:g}): "
                "an upload between them would get 429 for ever"
            )
        if self.max_wait_ms >= 1000 * self.request_timeout_s:
            raise UsageError(
                f"--max-wait-ms: got {self.max_wait_ms:g}; wanted less than --request-timeout-s "
                f"({1000 * self.request_timeout_s:g} ms): a request that waits so long gets 503"
            )
