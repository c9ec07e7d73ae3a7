"""Which runtime to open for a bundle, and how: kept, so that another process can open the same one."""

from dataclasses import dataclass

from serving.backends.backend_choice import open_backend
from serving.backends.runtime import Runtime
from serving.bundle.bundle import Bundle
from serving.cores import usable_cores
from serving.errors import UsageError

MAX_THREADS = 1024


@dataclass(frozen=True)
class RuntimeChoice:
    """The arguments of `Embedder.load` other than the bundle.

    errors   UsageError: fewer than one thread, or more than MAX_THREADS
    """

    backend: str
    precision: str
    threads: int | None
    strict: bool

    def __post_init__(self):
        if self.threads is not None and not (isinstance(self.threads, int) and 1 <= self.threads <= MAX_THREADS):
            raise UsageError(f"threads: got {self.threads!r}; wanted 1 to {MAX_THREADS}, or none for all cores")

    def open(self, bundle: Bundle) -> tuple[Runtime, int]:
        """Open the runtime. Returns it and its number of threads; errors as `open_backend`."""
        threads = self.threads or usable_cores()
        return open_backend(bundle, self.backend, self.precision, threads, self.strict), threads
