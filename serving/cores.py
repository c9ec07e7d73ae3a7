"""Cores and threads: how many threads are worth starting, and how they wait."""

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

# Multiplications in a matrix product that OpenBLAS, which is NumPy's, does in the caller's thread. More it shares out
# among threads of its own, for which other callers have to wait, and which take the cores from the runtimes' threads.
ONE_THREADS_PRODUCTS = 2**18


def let_waiting_threads_sleep(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep the threads of PyTorch and NumPy from spinning while they wait for one another. What is set already stays.

    Beside another program on the same cores, a thread that spins keeps the one that it waits for from its core: see
    docs/results/training.md. OpenMP, which is PyTorch's, and OpenBLAS, which is NumPy's, read this once, when they are
    loaded. OpenBLAS cannot be told to sleep, and its products are small here, so it gets one thread.
    """
    environment.setdefault("OMP_WAIT_POLICY", "passive")
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")


def usable_cores(root: Path = Path("/"), affinity: set[int] | None = None) -> int:
    """Physical cores that this process may use: at least 1.

    Counted are the cores of its CPU affinity, two hyper-threads of one core as one, and no more than the CPU quota of
    its control groups (version 1 or 2) lets run at the same time, rounded down: a thread above the quota makes all
    threads wait for the next period.

    root      where /proc and /sys are found
    affinity  numbers of logical CPUs; None: those of this process
    """
    if affinity is None:
        # Linux only; elsewhere there are no control groups either.
        affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core_of(root, cpu) for cpu in affinity}
    return max(1, int(min([len(cores), *_quotas(root)])))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs' worth of time that the control groups of this process grant it, None without a limit."""
    return min(_quotas(root), default=None)


def _core_of(root: Path, cpu: int) -> str:
    """The logical CPUs that share a core with this one, like "0,32"; itself where the system does not say."""
    try:
        return (root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quotas(root: Path) -> Iterator[float]:
    """CPUs granted by each control group from that of this process up to the root, where it sets a limit."""
    for folder in _groups(root):
        try:
            if (folder / "cpu.max").is_file():  # version 2: "150000 100000", or "max 100000" for no limit
                quota_us, period_us = (folder / "cpu.max").read_text().split()
            else:  # version 1: -1 for no limit
                quota_us = (folder / "cpu.cfs_quota_us").read_text()
                period_us = (folder / "cpu.cfs_period_us").read_text()
        except (OSError, ValueError):
            continue  # not there, or not to be read by this process
        if quota_us != "max" and int(quota_us) > 0:
            yield int(quota_us) / int(period_us)


def _groups(root: Path) -> Iterator[Path]:
    """Folders of this process's control groups that can hold a CPU quota, with all above them.

    Inside a container /proc names the group as the host sees it, while the container's own is mounted at the top: a
    folder that is not there is passed over, its parents are not.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2, alone or beside version 1
            tops = [mount, mount / "unified"]
        elif "cpu" in controllers.split(","):
            tops = [mount / controllers, mount / "cpu"]
        else:
            continue
        for top in tops:
            group = top / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))
