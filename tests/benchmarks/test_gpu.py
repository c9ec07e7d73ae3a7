"""make gpu: it goes on where a piece is missing, ends in time, and says what was not measured."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import benchmarks.gpu.__main__ as gpu
from benchmarks.gpu import inference, server
from benchmarks.gpu.page import write_page
from benchmarks.gpu.piece import Table, Tables
from benchmarks.gpu.scaling import Parts, bulk_files, measured_parts, scaling_tables, torchrun_samples
from serving.cores import usable_cores

ROOT = Path(__file__).parents[2]
TABLE = {"title": "A table", "head": ["way", "ms"], "rows": [["this", "1.5"]], "notes": ["a note"], "plot": None}


def test_without_a_gpu_each_piece_says_so_and_no_page_is_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "gpu_names", lambda: [])
    monkeypatch.setattr(gpu, "PAGE", tmp_path / "gpu.md")
    assert gpu.main([]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert (result["out"], result["done"]) == (None, 0)
    assert err.count("no GPU here") == result["pieces"] >= 8
    assert list(tmp_path.iterdir()) == []


def test_it_starts_with_no_package_installed(tmp_path):
    """On a machine with a GPU, a piece may lack its packages; the command needs none."""
    page = tmp_path / "gpu.md"
    command = [sys.executable, "-S", "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--seconds", "1"]
    done = subprocess.run([*command, "--out", str(page)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "no time was left" in done.stderr
    assert "GPU: none here" in page.read_text()


def test_a_page_that_cannot_be_written_is_refused_before_the_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "measure", lambda *_: pytest.fail("it measured"))
    (tmp_path / "file").touch()
    for page, reason in ((tmp_path, "it is a folder"), (tmp_path / "file" / "gpu.md", "File exists")):
        assert gpu.main(["--out", str(page)]) == 2
        assert capsys.readouterr().err == f"error: --out: {page} cannot be written ({reason}); give another path\n"


@pytest.mark.parametrize(
    ("work", "why"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("import time; time.sleep(60)", "did not end within 3 s"),
        ("import os; os.abort()", "exit code -6"),
    ],
)
def test_a_piece_that_fails_is_named_and_the_others_go_on(monkeypatch, tmp_path, work, why):
    pieces = [gpu.Piece("broken", ["-c", work], 3.0), gpu.Piece("good", ["-c", "pass"], 30.0)]
    monkeypatch.setattr(gpu, "gpu_names", lambda: ["NVIDIA Fake 100, 580.0, 80 GB"])
    monkeypatch.setattr(gpu, "pieces", lambda *given: pieces)
    assert gpu.main(["--out", str(tmp_path / "gpu.md")]) == 0
    page = (tmp_path / "gpu.md").read_text()
    assert "NVIDIA Fake 100" in page
    assert why in page
    assert page.splitlines()[-1].startswith("| good |")
    assert page.splitlines()[-1].endswith("| done |")


def test_a_piece_that_is_ended_keeps_the_tables_that_it_had(tmp_path, monkeypatch):
    module = tmp_path / "slow_piece.py"
    module.write_text(
        "import pathlib, sys, time\n"
        f"pathlib.Path(sys.argv[-1]).write_text({json.dumps([TABLE])!r})\n"
        "print('cudnn_frontend: No execution plans', file=sys.stderr, flush=True)\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    outcome = gpu.run_piece(gpu.Piece("slow", ["-m", "slow_piece"], 3.0), 3.0)
    assert outcome.why == "did not end within 3 s"
    assert outcome.tables == [TABLE]
    assert outcome.error_lines == 1
    write_page(tmp_path / "gpu.md", [], [vars(outcome)])
    page = (tmp_path / "gpu.md").read_text()
    assert "| this | 1.5 |" in page
    assert "1 lines of cuDNN" in page


def test_what_a_piece_has_started_ends_with_it(tmp_path, monkeypatch):
    """The tests marked gpu run in a process of their piece: it would take the time of the pieces after it."""
    late = tmp_path / "late"
    child = f"import pathlib, time; time.sleep(4); pathlib.Path({str(late)!r}).touch()"
    work = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert gpu.run_piece(gpu.Piece("slow", ["-c", work], 2.0), 2.0).why == "did not end within 2 s"
    time.sleep(4)
    assert not late.exists()


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


def test_a_piece_writes_a_table_after_each_row_in_place_of_the_shorter_one(tmp_path):
    tables = Tables(tmp_path / "tables.json")
    tables.put(Table("first", ["way"], [["a"]]))
    tables.put(Table("second", ["way"], [["b"]]))
    tables.put(Table("first", ["way"], [["a"], ["c"]]))
    written = json.loads((tmp_path / "tables.json").read_text())
    assert [(each["title"], each["rows"]) for each in written] == [("first", [["a"], ["c"]]), ("second", [["b"]])]


def test_a_page_from_the_cpu_says_so_and_computes_nothing_for_gpus_from_it(tmp_path):
    table = TABLE | {"title": "Training yamnet: samples a second", "numbers": {"ours, 16": 8.0}}
    outcome = gpu.Outcome("training", tables=[table])
    pages = {}
    for device in ("cuda", "cpu"):
        write_page(tmp_path / "gpu.md", [], [vars(outcome)], device)
        pages[device] = (tmp_path / "gpu.md").read_text()
    assert "nothing here is a number of a GPU" in pages["cpu"]
    assert "nothing here is a number of a GPU" not in pages["cuda"]
    assert "step 2e+03 ms" in pages["cuda"]
    assert "step 14 ms" in pages["cpu"]


def test_more_gpus_help_until_another_part_limits_them():
    parts = Parts()
    one, eight = torchrun_samples(parts, 1), torchrun_samples(parts, 8)
    assert one[1] == "step"
    assert 1 < eight[0] / one[0] < 8, "the collectives take their part"
    slow_link = torchrun_samples(replace(parts, link_gb_per_s=1.0), 8)
    assert slow_link[1] == "gradients"
    assert slow_link[0] < eight[0]
    assert bulk_files(replace(parts, cores_a_gpu=1), 1)[1] == "decoding on the CPU"
    assert bulk_files(replace(parts, network_ms=50.0), 1)[1] == "the network"
    assert bulk_files(replace(parts, write_ms=10.0), 8) == (100.0, "writing rows in one process")


def test_what_was_measured_replaces_the_older_numbers():
    measured = [
        {"title": "Training yamnet: samples a second", "numbers": {"ours, 16": 8000.0}},
        {"title": "yamnet, fp16: ms a call", "numbers": {"CUDA provider, as shipped, 256": 5.12}},
    ]
    parts = measured_parts(measured)
    assert parts.step_ms == 2.0
    assert parts.network_ms == pytest.approx(0.02)
    assert all("computed" in table["title"] for table in scaling_tables(parts))
