"""Worker processes that share the groups of a bulk job, and give back their results in order.

Threads of one process take turns with Python's lock; processes do not.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

from serving.bulk.network_server import NetworkServer, RemoteNetwork
from serving.bulk.worker_process import WorkerProcess
from serving.command_line import say
from serving.errors import BackendError

Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)

GROUPS_GIVEN = 2  # to each worker: the second one is there when the first is done
GROUPS_AHEAD = 4  # for each worker: results that wait for an earlier group


class Job(Protocol[Result_co]):
    """What each worker does with a group of files. It is pickled."""

    def open(self, network: RemoteNetwork | None) -> Callable[[list[str]], Result_co]:
        """Open what is needed, in the worker. network: of the process that began the job; None: the job opens one."""
        ...

    def lost(self, name: str, reason: str) -> Result_co:
        """The result of a file with which a worker process ended twice."""
        ...


@dataclass(eq=False)
class _Group(Generic[Result]):
    names: list[str]
    again: bool = False  # a worker ended with it
    results: list[Result] = field(default_factory=list)  # one, once it is done


@dataclass(eq=False)
class _Worker:
    process: WorkerProcess
    ready: bool = False
    given: deque[_Group[Any]] = field(default_factory=deque)


def work_in_processes(
    job: Job[Result], groups: Iterable[list[str]], processes: int, server: NetworkServer | None = None
) -> Generator[Result]:
    """Yield the results of all groups in order; of a group that was worked on again, one result for each file.

    server   runs the network for all workers; None: each worker opens its own
    errors   BackendError: all workers end before they have begun; and whatever a worker's job raises
    If a worker process ends, for example because a decoder failed or the system is short of memory, another one takes
    its files, one by one. A file with which a worker ends again gets the result `lost`. When the consumer stops, or
    this process ends in any way, the workers end.
    """
    pool = _Pool(job, processes, server)
    try:
        pool.start()
        yield from pool.results(groups)
    finally:
        pool.close()


class _Pool(Generic[Result]):
    def __init__(self, job: Job[Result], processes: int, server: NetworkServer | None):
        self._job = job
        self._server = server
        self._again: deque[_Group[Result]] = deque()
        self._order: deque[_Group[Result]] = deque()  # given out or done, not yet yielded
        self._workers: list[_Worker] = []
        self._processes = processes

    def start(self) -> None:
        for _ in range(self._processes):
            self._workers.append(self._start())

    def close(self) -> None:
        for worker in self._workers:
            worker.process.end()

    def results(self, groups: Iterable[list[str]]) -> Generator[Result]:
        source = iter(groups)
        self._give(source)
        while self._order:
            by_connection = {worker.process.connection: worker for worker in self._workers}
            for connection in wait(list(by_connection)):
                assert isinstance(connection, Connection)
                self._receive(by_connection[connection])
            self._give(source)
            while self._order and self._order[0].results:
                yield from self._order.popleft().results
                self._give(source)

    def _start(self) -> _Worker:
        return _Worker(WorkerProcess(self._job, self._server.connect() if self._server else None))

    def _give(self, source: "Iterable[list[str]]") -> None:
        """Give each worker that is ready its groups: first those that are worked on again."""
        for _ in range(GROUPS_GIVEN):
            for worker in self._workers:
                if worker.ready and len(worker.given) < GROUPS_GIVEN:
                    group = self._again.popleft() if self._again else self._next(source)
                    if group is None:
                        return
                    worker.given.append(group)
                    worker.process.send(group.names)
        if not self._order:  # before any worker is ready
            self._again.extend(filter(None, [self._next(source)]))

    def _next(self, source: Any) -> _Group[Result] | None:
        if len(self._order) >= GROUPS_AHEAD * self._processes or (names := next(source, None)) is None:
            return None
        group: _Group[Result] = _Group(names)
        self._order.append(group)
        return group

    def _receive(self, worker: _Worker) -> None:
        try:
            kind, content = worker.process.connection.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        if kind == "ready":
            worker.ready = True
        elif kind == "done":
            worker.given.popleft().results.append(content)
        else:
            raise content

    def _replace(self, worker: _Worker) -> None:
        """Start another worker in the place of one that has ended, and take back its groups.

        One that ended at its start is not replaced: another one would probably end too.
        """
        how = worker.process.end()
        if not worker.ready:
            self._workers.remove(worker)
            if not self._workers:
                raise BackendError(f"a worker process ended at its start ({how}); take processes=1")
            say(f"warning: a worker process ended at its start ({how}); {len(self._workers)} go on")
            return
        given = list(worker.given)
        worker.given.clear()
        if given:
            self._take_back(given[0], how)
            self._again.extend(given[1:])
        self._workers[self._workers.index(worker)] = self._start()

    def _take_back(self, group: _Group[Result], how: str) -> None:
        if group.again:
            (name,) = group.names
            group.results.append(self._job.lost(name, f"a process that read it ended twice ({how})"))
            return
        say(f"warning: a worker process ended ({how}); its {len(group.names)} files are read again, one by one")
        singles: list[_Group[Result]] = [_Group([name], again=True) for name in group.names]
        place = self._order.index(group)
        self._order.rotate(-place)
        self._order.popleft()
        self._order.extendleft(reversed(singles))
        self._order.rotate(place)
        self._again.extendleft(reversed(singles))
