"""The benchmarks: that they measure what serving does, and say what they measured. Never how fast."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency import embed_clips, main, synthesise
from benchmarks.machine import this_machine
from benchmarks.report import make_rows, replace_file
from benchmarks.timing import Job, percentiles, time_in_turns, wait_for_rest
from serving.audio import decode_audio
from serving.errors import UsageError

STAGES = ["decode", "resample", "front_end", "model", "network", "whole"]

# The command in a process where torch is not installed. A None in sys.modules would not do: tyro takes the mere key
# for a sign that torch is there.
WITHOUT_TORCH = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchaudio"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from benchmarks.latency import main

raise SystemExit(main())
"""


@pytest.fixture(scope="module")
def measured(bundle_folder, tmp_path_factory) -> tuple[list[str], Path]:
    """The lines that a small measurement prints, and its folder."""
    out = tmp_path_factory.mktemp("latency") / "new" / "folder"
    arguments = f"{bundle_folder} --batch 3,1 --repeats 4 --seconds 0.5 --threads 1 --out {out}"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments.split()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), out


def test_without_torch_the_last_line_is_json_with_a_row_for_each_stage_and_batch(measured):
    lines, _ = measured
    result = json.loads(lines[-1])
    assert [(row["batch"], row["stage"]) for row in result["rows"]] == [(b, s) for b in (1, 3) for s in STAGES]
    assert result["bundle"]["network"] == "yamnet-compact"
    assert result["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert result["settings"] == {"repeats": 4, "warm_up": 3, "threads": 1, "batches": [1, 3]}
    assert result["clips"]["seconds"] == [0.5, 0.5, 0.5]


def test_every_measured_stage_takes_time_and_its_percentiles_rise(measured):
    rows = json.loads(measured[0][-1])["rows"]
    timed = [row for row in rows if row["stage"] != "network"]
    assert len(timed) == 10
    for row in timed:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["n"] == 4
        assert row["windows"] == row["batch"]  # half a second is one window
    for row in rows:
        assert (row["clips_per_second"] is not None) == (row["stage"] in ("model", "whole"))


def test_the_network_is_the_difference_of_the_medians_and_claims_no_percentiles(measured):
    rows = {(row["stage"], row["batch"]): row for row in json.loads(measured[0][-1])["rows"]}
    for batch in (1, 3):
        network = rows["network", batch]
        assert network["p50_ms"] == rows["model", batch]["p50_ms"] - rows["front_end", batch]["p50_ms"]
        assert network["n"] is network["p95_ms"] is network["p99_ms"] is None


def test_the_worst_cosine_of_the_bundle_stands_beside_the_models_times(measured, bundle_folder):
    results = json.loads((bundle_folder / "parity.json").read_text())["results"]
    worst = min(result["worst_cosine"] for result in results)
    for row in json.loads(measured[0][-1])["rows"]:
        assert row["worst_cosine"] == (worst if row["stage"] in ("model", "network", "whole") else None)


def test_json_file_and_plot_are_written_whole(measured):
    lines, out = measured
    assert {path.name for path in out.iterdir()} == {"latency.json", "latency.png"}
    assert json.loads((out / "latency.json").read_text()) == json.loads(lines[-1])
    assert (out / "latency.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_few_samples_are_said_beside_their_p99(measured):
    assert any("p99 of 4 is nearly the slowest" in line for line in measured[0])


def test_the_timed_path_gives_the_embeddings_of_embedder_embed(embedder, recordings):
    rng = np.random.default_rng(1)
    files = [synthesise(seconds, rng) for seconds in (0.2, 5.0, 12.0)]  # 1, 1 and 3 windows
    files += [path.read_bytes() for path in sorted(recordings.glob("*/0.wav"))]
    wanted = np.stack([embedder.embed(*decode_audio(data)) for data in files])
    got = embed_clips(embedder, files)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    assert np.array_equal(embed_clips(embedder, files[2:3])[0], wanted[2])


def test_recordings_are_measured_as_they_are(bundle_folder, recordings, tmp_path, capsys):
    arguments = ["--batch", "2", "--repeats", "1", "--recordings", str(recordings), "--out", str(tmp_path)]
    assert main([str(bundle_folder), *arguments]) == 0
    clips = json.loads(capsys.readouterr().out.splitlines()[-1])["clips"]
    assert clips == {"source": str(recordings), "distinct": 24, "seconds": [3.0, 3.0, 3.0], "rates_hz": [16_000]}


@pytest.mark.parametrize(
    "flags",
    [
        "--batch 0",
        "--batch 1,two",
        "--batch 1,,8",
        "--batch 100000",
        "--repeats 0",
        "--seconds 0",
        "--seconds nan",
        "--seconds 1e9",
        "--threads 0",
        "--recordings {empty}",
        "--recordings {empty}/nothing",
        "--recordings {text}",
        "--out {text}/wave.wav/below",
    ],
)
def test_wrong_flags_exit_2_with_one_line(flags, bundle_folder, tmp_path, capsys):
    text, empty = tmp_path / "text", tmp_path / "empty"
    text.mkdir()
    empty.mkdir()
    (text / "wave.wav").write_text("no sound")
    assert main([str(bundle_folder), "--out", str(tmp_path), *flags.format(text=text, empty=empty).split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith(f"error: {flags.split()[0]}: got ") or str(tmp_path) in printed.err


def test_a_folder_that_is_no_bundle_exits_2_and_leaves_nothing(tmp_path, capsys):
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "manifest.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_percentiles_of_0_to_100_ms_are_their_own_numbers():
    durations = np.random.default_rng(0).permutation(101) * 1_000_000
    found = percentiles(durations)
    assert (found.n, found.p50_ms, found.p95_ms, found.p99_ms) == (101, 50.0, 95.0, 99.0)


def test_percentiles_of_one_duration_are_that_duration():
    found = percentiles(np.array([2_500_000]))
    assert (found.n, found.p50_ms, found.p95_ms, found.p99_ms) == (1, 2.5, 2.5, 2.5)


def test_jobs_take_turns_and_neither_warm_up_nor_preparation_nor_settling_is_timed():
    now, order = 0, []

    def job(name: str, cost_ns: int) -> Job:
        def prepare(turn: int) -> int:
            nonlocal now
            now += 1_000
            return turn

        def work(turn: int) -> None:
            nonlocal now
            now += cost_ns + turn
            order.append((name, turn))

        return Job(prepare, work)

    def settle() -> None:
        nonlocal now
        now += 50_000

    jobs = {"a": job("a", 10), "b": job("b", 20)}
    rounds: list[int] = []
    durations = time_in_turns(jobs, 3, 2, lambda: rounds.append(len(order)), settle, lambda: now)
    assert order == [(name, turn) for turn in range(5) for name in ("a", "b")]
    assert rounds == [2, 4, 6, 8, 10]
    assert {name: list(values) for name, values in durations.items()} == {"a": [12, 13, 14], "b": [22, 23, 24]}


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


def test_clips_a_second_are_the_batch_over_its_median():
    durations = {("model", 8): np.array([100, 200, 900]) * 1_000_000, ("front_end", 8): np.array([50]) * 1_000_000}
    model, network, _ = make_rows(durations, 1.5, 6.0, "runtime", 1.0)
    assert (model.p50_ms, model.clips_per_second, model.windows) == (200.0, 40.0, 12.0)
    assert network.p50_ms == 150.0


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    out = tmp_path / "latency.json"
    out.write_text("old")

    def fill_the_disk(path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UsageError, match="No space left"):
        replace_file(out, fill_the_disk)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"latency.json": "old"}


def test_the_machine_is_named():
    machine = this_machine()
    assert machine.cpu
    assert machine.ram_gib > 0
    assert np.__version__ in str(machine)
