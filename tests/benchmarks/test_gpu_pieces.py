"""The pieces of make gpu, on the CPU: each compares equal work by equal statistics, or says why it cannot."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import inference, marked_tests, peers, server, training
from benchmarks.gpu.piece import Table, Tables
from serving.cores import usable_cores
from training.compute import Compute

ROOT = Path(__file__).parents[2]


def test_the_server_is_measured_with_threads_and_with_processes(tmp_path, monkeypatch):
    out, bundle = tmp_path / "tables.json", ROOT / "demo" / "model-from-scratch"
    monkeypatch.setattr(sys, "argv", ["server", str(bundle), "--device", "cpu", "--quick", "--json", str(out)])
    server.main()
    (table,) = json.loads(out.read_text())
    ways = [row[0].split(",")[0] for row in table["rows"]]
    assert ways == ["threads", "threads", *2 * [f"{max(2, min(usable_cores(), 16))} processes"]]
    assert {row[3] for row in table["rows"]} == {"none"}, "each request is answered"
    assert all(float(row[1]) > 0 for row in table["rows"])


def test_each_way_to_run_a_model_is_measured_or_says_why_not(tmp_path, monkeypatch):
    """On the CPU, where all settings of the CUDA provider are the same session."""
    out = tmp_path / "tables.json"
    bundle = ROOT / "demo" / "model-from-scratch"
    monkeypatch.setattr(sys, "argv", ["inference", str(bundle), "--device", "cpu", "--quick", "--json", str(out)])
    inference.main()
    (table,) = json.loads(out.read_text())
    ways = {row[0]: row for row in table["rows"]}
    assert all(f"CPU provider, {name}" in ways for name in inference.VARIANTS)
    assert float(ways["CPU provider, as shipped"][2]) > 0.99999
    assert set(table["plot"]["lines"]) == {name for name, row in ways.items() if row[3] != "-"}


def test_tests_that_cannot_run_are_a_piece_that_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["marked_tests", "--json", str(tmp_path / "tables.json")])
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(SystemExit, match="exit code 1"):
        marked_tests.main()
    assert not (tmp_path / "tables.json").exists()


def test_a_clip_of_the_other_package_has_as_many_patches_as_in_the_benchmark_of_peers():
    pytest.importorskip("torch_vggish_yamnet", reason="not installed: the extra peers")
    committed = json.loads((ROOT / "docs" / "results" / "benchmarks.json").read_text())["peers"]["rows"]
    windows = {row["windows"] for row in committed if row["name"] == "torch-vggish-yamnet, yamnet"}
    assert windows == {peers.patches_a_clip()}


def test_epochs_of_ours_and_rounds_of_plain_pytorch_are_both_medians(monkeypatch):
    rates = iter([1.0, 90.0, 20.0, 10.0])  # the first epoch warms up

    def fit(*given, **named):
        return [SimpleNamespace(samples_per_second=rate) for rate in rates]

    monkeypatch.setattr(training, "fit", fit)
    clips = training.make_clips(4, 96)
    assert training.ours("yamnet-compact", clips, 2, Compute(torch.device("cpu"))) == 20
    seconds = iter([0.0, 1.0, 1.0, 3.0, 3.0, 103.0])  # rounds of 1, 2 and 100 s
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(seconds))
    assert training.plain("yamnet-compact", clips, 2, "cpu", False, False, steps=1) == pytest.approx(1.0)


def test_a_piece_writes_a_table_after_each_row_in_place_of_the_shorter_one(tmp_path):
    tables = Tables(tmp_path / "tables.json")
    tables.put(Table("first", ["way"], [["a"]]))
    tables.put(Table("second", ["way"], [["b"]]))
    tables.put(Table("first", ["way"], [["a"], ["c"]]))
    written = json.loads((tmp_path / "tables.json").read_text())
    assert [(each["title"], each["rows"]) for each in written] == [("first", [["a"], ["c"]]), ("second", [["b"]])]
