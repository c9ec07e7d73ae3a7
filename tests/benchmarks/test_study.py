"""What all benchmarks share: fair timing, the machine row, clips, files that are written completely or not at all."""

import math
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.host import describe_hardware, describe_software, read_host
from benchmarks.inputs import input_clips
from benchmarks.study import TextTable, to_csv, write_file
from benchmarks.turns import TimedJob, percentiles, take_turns, wait_for_rest
from serving.cosine import worst_cosine
from serving.errors import UsageError


def test_percentiles_of_0_to_100_ms_are_their_own_numbers():
    durations = np.random.default_rng(0).permutation(101) * 1_000_000
    found = percentiles(durations)
    assert (found.n, found.p50_ms, found.p95_ms, found.p99_ms) == (101, 50.0, 95.0, 99.0)


def test_percentiles_of_one_duration_are_that_duration():
    found = percentiles(np.array([2_500_000]))
    assert (found.n, found.p50_ms, found.p95_ms, found.p99_ms) == (1, 2.5, 2.5, 2.5)


def test_jobs_take_turns_and_neither_warm_up_nor_preparation_nor_settling_is_timed():
    now, order = 0, []

    def job(name: str, cost_ns: int) -> TimedJob:
        def prepare(turn: int) -> int:
            nonlocal now
            now += 1_000
            return turn

        def work(turn: int) -> None:
            nonlocal now
            now += cost_ns + turn
            order.append((name, turn))

        return TimedJob(prepare, work)

    def settle() -> None:
        nonlocal now
        now += 50_000

    jobs = {"a": job("a", 10), "b": job("b", 20)}
    rounds: list[int] = []
    durations = take_turns(jobs, 3, 2, 1, lambda: rounds.append(len(order)), settle, lambda: now)
    assert order == [(name, turn) for turn in range(5) for name in ("a", "b")]
    assert rounds == [2, 4, 6, 8, 10]
    assert {name: values.ravel().tolist() for name, values in durations.items()} == {
        "a": [12, 13, 14],
        "b": [22, 23, 24],
    }
    order.clear()
    rows = take_turns(jobs, 2, 1, 3, lambda: None, settle, lambda: now)
    assert order == [(name, 3 * turn + i) for turn in range(3) for name in ("a", "b") for i in range(3)]
    assert {name: values.tolist() for name, values in rows.items()} == {
        "a": [[13, 14, 15], [16, 17, 18]],
        "b": [[23, 24, 25], [26, 27, 28]],
    }


def test_waiting_for_rest_ends_though_a_thread_never_rests():
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            pass

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        wait_for_rest(most_s=0.05)
    finally:
        stop.set()
        thread.join()


def test_the_worst_row_decides_and_nothing_broken_agrees():
    rows = np.random.default_rng(0).standard_normal((100, 8))
    assert worst_cosine(rows, 3 * rows) == pytest.approx(1.0)
    turned = rows.copy()
    turned[57] *= -1
    assert worst_cosine(turned, rows) == pytest.approx(-1.0)
    for value in (math.nan, math.inf):
        broken = rows.copy()
        broken[3, 3] = value
        assert worst_cosine(broken, rows) == -1.0
    empty = rows.copy()
    empty[5] = 0
    assert worst_cosine(empty, rows) == 0.0
    assert worst_cosine(empty, empty) == pytest.approx(1.0)


def test_clips_are_repeated_as_files_until_there_are_enough(recordings):
    clips = input_clips(recordings, 5.0, 3)
    with clips.as_files(8) as paths:
        assert len(set(paths)) == 8
        assert [path.read_bytes() for path in paths] == [list(clips.encoded.values())[i % 3] for i in range(8)]
        folder = paths[0].parent
    assert not folder.exists()


def test_tables_of_one_row_tell_its_fields():
    line = percentiles(np.array([2_500_000]))
    assert to_csv([asdict(line)]) == "n,p50_ms,p95_ms,p99_ms\n1,2.5,2.5,2.5\n"
    assert TextTable("", ("a", "b"), [["x", "1"]]).markdown() == "| a | b |\n|---|---:|\n| x | 1 |\n"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    out = tmp_path / "latency.json"
    out.write_text("old")

    def fill_the_disk(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match="No space left"):
        write_file(out, fill_the_disk)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"latency.json": "old"}


def test_the_machine_is_named():
    host = read_host()
    assert host.cpu
    assert host.ram_gib > 0
    machine = asdict(host)
    assert host.cpu in describe_hardware(machine)
    assert np.__version__ in describe_software(machine)
