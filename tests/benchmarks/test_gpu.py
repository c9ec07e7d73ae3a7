"""make gpu: it goes on where a piece is missing, ends in time, and says what was not measured."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import benchmarks.gpu.__main__ as gpu
from benchmarks.gpu.page import write_page
from benchmarks.gpu.scaling import Parts, bulk_files, measured_parts, scaling_tables, torchrun_samples

ROOT = Path(__file__).parents[2]
TABLE = {"title": "A table", "head": ["way", "ms"], "rows": [["this", "1.5"]], "notes": ["a note"], "plot": None}
TABLE |= {"numbers": {"this": 1.5}}


def fake_measurement(monkeypatch, *pieces: gpu.Piece) -> None:
    """A machine with a GPU, on which these pieces are measured."""
    monkeypatch.setattr(gpu, "gpu_names", lambda: ["NVIDIA Fake 100, 580.0, 80 GB"])
    monkeypatch.setattr(gpu, "pieces", lambda *given: list(pieces))


@pytest.fixture
def measured_piece(tmp_path, monkeypatch) -> gpu.Piece:
    """A piece that writes TABLE."""
    (tmp_path / "modules").mkdir()
    work = f"import pathlib, sys; pathlib.Path(sys.argv[-1]).write_text({json.dumps([TABLE])!r})"
    (tmp_path / "modules" / "good_piece.py").write_text(work)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    return gpu.Piece("good", ["-m", "good_piece"], 30.0)


@pytest.mark.parametrize("named", [True, False])
def test_without_a_gpu_one_line_says_so_and_an_older_page_stays(monkeypatch, tmp_path, capsys, named):
    page = tmp_path / "gpu.md"
    page.write_text("measured on another machine")
    monkeypatch.setattr(gpu, "gpu_names", lambda: [])
    monkeypatch.setattr(gpu, "PAGE", page)
    assert gpu.main(["--out", str(page)] if named else []) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "error: no GPU here" in err
    assert page.read_text() == "measured on another machine"
    assert list(tmp_path.iterdir()) == [page]


def test_an_older_page_stays_where_nothing_was_measured(monkeypatch, tmp_path, capsys):
    page = tmp_path / "gpu.md"
    page.write_text("measured in another run")
    fake_measurement(monkeypatch, gpu.Piece("broken", ["-c", "import no_such_package"], 9.0))
    assert gpu.main(["--out", str(page)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert "No module named 'no_such_package'" in err[0]
    assert err[-1].startswith("error: nothing was measured")
    assert page.read_text() == "measured in another run"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--seconds 0", "--seconds: got 0; wanted a number above 5 and up to 86400"),
        ("--seconds nan", "--seconds: got nan; wanted"),
        ("--seconds inf", "--seconds: got inf; wanted"),
        ("--seconds=-1", "--seconds: got -1; wanted"),
        ("--seconds soon", "--seconds: got soon; wanted"),
        ("--device foo", "--device: got foo; wanted one of cuda, cpu"),
        ("--fast", "unrecognized arguments: --fast"),
    ],
)
def test_wrong_flags_are_one_line(monkeypatch, capsys, words, told):
    monkeypatch.setattr(gpu, "measure", lambda *_: pytest.fail("it measured"))
    with pytest.raises(SystemExit) as stop:
        gpu.main(words.split())
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_it_starts_with_no_package_installed(tmp_path, measured_piece):
    """On a machine with a GPU, a piece may lack its packages; the command needs none."""
    page = tmp_path / "gpu.md"
    code = "import benchmarks.gpu.__main__ as gpu; gpu.gpu_names = lambda: ['NVIDIA Fake 100']; "
    code += f"gpu.pieces = lambda *given: [gpu.{measured_piece}]; raise SystemExit(gpu.main(['--out', {str(page)!r}]))"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=True)
    assert "GPU: NVIDIA Fake 100" in page.read_text()


def test_a_page_that_cannot_be_written_is_refused_before_the_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(gpu, "measure", lambda *_: pytest.fail("it measured"))
    fake_measurement(monkeypatch)
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
def test_a_piece_that_fails_is_named_and_the_others_go_on(monkeypatch, tmp_path, measured_piece, work, why):
    fake_measurement(monkeypatch, gpu.Piece("broken", ["-c", work], 3.0), measured_piece)
    assert gpu.main(["--out", str(tmp_path / "gpu.md")]) == 0
    page = (tmp_path / "gpu.md").read_text()
    assert "NVIDIA Fake 100" in page
    assert why in page
    assert page.splitlines()[-1].startswith("| good |")
    assert page.splitlines()[-1].endswith("| done |")
    assert "--quick" not in page
    assert gpu.main(["--quick", "--out", str(tmp_path / "gpu.md")]) == 0
    assert "Run with --quick" in (tmp_path / "gpu.md").read_text()


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
