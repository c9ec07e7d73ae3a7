"""Threads: the physical cores of the container, not of the host."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from serving.cores import cpu_quota, usable_cores


def machine(root: Path, siblings: list[str]) -> Path:
    """A machine's /sys: for each logical CPU, those that share its core."""
    for cpu, together in enumerate(siblings):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(together + "\n")
    return root


def group(root: Path, line: str, folder: str, **files: str) -> None:
    """A control group: a line of /proc/self/cgroup, and files in its folder."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    with (root / "proc/self/cgroup").open("a") as lines:
        lines.write(line + "\n")
    place = root / "sys/fs/cgroup" / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name.replace("__", ".")).write_text(content + "\n")


EIGHT = ["0,4", "1,5", "2,6", "3,7"] * 2  # four cores with two hyper-threads each


def test_two_hyper_threads_are_one_core(tmp_path):
    assert usable_cores(machine(tmp_path, EIGHT), affinity=set(range(8))) == 4


def test_only_the_cpus_of_the_affinity_count(tmp_path):
    machine(tmp_path, EIGHT)
    assert usable_cores(tmp_path, affinity={1, 2, 5}) == 2


def test_a_system_that_tells_nothing_has_as_many_cores_as_cpus(tmp_path):
    assert usable_cores(tmp_path, affinity={0, 1, 2}) == 3


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 4), ("300000 100000", 3), ("250000 100000", 2), ("50000 100000", 1), ("900000 100000", 4)],
)
def test_a_version_2_quota_limits_the_cores_and_is_rounded_down(tmp_path, quota, cores):
    group(machine(tmp_path, EIGHT), "0::/", "", cpu__max=quota)
    assert usable_cores(tmp_path, affinity=set(range(8))) == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 4), ("200000", 2)])
def test_a_version_1_quota_limits_the_cores(tmp_path, quota, cores):
    group(
        machine(tmp_path, EIGHT), "4:cpu,cpuacct:/", "cpu,cpuacct", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000"
    )
    assert usable_cores(tmp_path, affinity=set(range(8))) == cores


def test_a_container_that_sees_the_hosts_name_of_its_group_finds_its_own_quota(tmp_path):
    group(
        machine(tmp_path, EIGHT),
        "4:cpu:/docker/4f1c",  # the name outside; inside, the group itself is mounted
        "cpu",
        cpu__cfs_quota_us="100000",
        cpu__cfs_period_us="100000",
    )
    assert usable_cores(tmp_path, affinity=set(range(8))) == 1


def test_the_least_quota_of_a_group_and_all_above_it_counts(tmp_path):
    group(machine(tmp_path, EIGHT), "0::/system.slice/unheard.service", "system.slice", cpu__max="200000 100000")
    group(tmp_path, "1:name=systemd:/", "system.slice/unheard.service", cpu__max="max 100000")
    assert usable_cores(tmp_path, affinity=set(range(8))) == 2
    assert cpu_quota(tmp_path) == 2.0


def test_no_control_groups_are_no_quota(tmp_path):
    assert cpu_quota(tmp_path) is None


def test_this_machine_has_at_least_one_core_and_no_more_than_this_process_may_use():
    import os

    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("package", ["training", "export"])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(package):
    code = f"import {package}, os; print(os.environ['OMP_WAIT_POLICY'], os.environ['OPENBLAS_NUM_THREADS'])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "OPENBLAS_"))}

    def settings(**given: str) -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=environment | given, capture_output=True, text=True, check=True).stdout

    assert settings() == "passive 1\n"
    assert settings(OMP_WAIT_POLICY="active", OPENBLAS_NUM_THREADS="4") == "active 4\n"
