"""What commands print in a narrow terminal: tables may be narrow too, but no path is broken."""

import importlib
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from demo.bundle_choice import FROM_SCRATCH
from demo.examples import EXAMPLE_SOUNDS
from training.evaluate import main as evaluate

ROOT = Path(__file__).parents[2]
COLUMNS = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with one recording, and with a name longer than a line."""
    folder = tmp_path_factory.mktemp("narrow") / "recordings-of-a-long-night-in-the-field" / "with more of the same"
    folder.mkdir(parents=True)
    shutil.copy(EXAMPLE_SOUNDS / "rain.ogg", folder)
    return folder


def embed(folder: Path, *more: str, file_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """Embed the folder into folder/embeddings.parquet. file_bytes: a larger file cannot be written."""

    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    command = [sys.executable, "-m", "serving.embed", str(FROM_SCRATCH), str(folder), "--backend", "onnxruntime"]
    command += ["--out", str(folder / "embeddings.parquet"), *more]
    env = os.environ | {"COLUMNS": str(COLUMNS)}
    return subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False, preexec_fn=limit
    )


def test_the_table_of_a_job_stands_under_its_unbroken_path(folder):
    done = embed(folder, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert str(folder / "embeddings.parquet") in done.stdout.splitlines()
    assert max(map(len, done.stdout.splitlines()[1:-1])) <= COLUMNS


def test_a_failing_write_of_the_result_is_one_line_with_the_unbroken_path(folder):
    done = embed(folder, "--overwrite", file_bytes=1000)
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"error: {folder / 'embeddings.parquet'}: cannot be written (")


@pytest.mark.parametrize("flag", ["--per", "--threads", "--bogus"])
def test_a_wrong_flag_is_one_line_with_the_unbroken_path(folder, flag):
    done = embed(folder, flag, str(folder))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert flag in line
    assert flag == "--bogus" or str(folder) in line


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_wrong_flag_is_one_short_line_in_terminals_without_utf_8_too(encoding):
    env = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "serving.label", "b", "sounds", "--out", "o", "--nope"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: Unrecognized options: --nope")
    assert line.endswith("; see python -m serving.label --help")
    assert "---" not in line


@pytest.mark.parametrize(
    "command",
    [
        ["serving", "PATH"],
        ["serving.doctor", "PATH"],
        ["serving.embed", "PATH", ".", "--out", "x.parquet"],
        ["serving.embed", str(FROM_SCRATCH), "PATH", "--out", "x.parquet"],
        ["serving.embed", str(FROM_SCRATCH), ".", "--out", "PATH.parquet"],
        ["serving.label", str(FROM_SCRATCH), ".", "--out", "PATH.csv"],
        ["serving.index", "x.parquet", "--out", "PATH"],
        ["serving.search", "x.index", "--bundle", str(FROM_SCRATCH), "--words", "rain", "--out", "PATH.csv"],
        ["serving.review", "x.parquet", "--bundle", str(FROM_SCRATCH), "--out", "PATH.csv"],
        ["demo", "PATH"],
        ["export.parity", "PATH"],
        ["export.onnx", "PATH", "--out", "bundle"],
        ["export.triton", str(FROM_SCRATCH), "--out", "PATH"],
        ["training.evaluate", "PATH"],
        ["training.run", "--data-dir", "PATH", "--out", "run"],
        ["benchmarks.latency", "PATH"],
    ],
    ids=" ".join,
)
def test_a_path_that_is_too_long_is_told_in_one_line(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    name, *arguments = [word.replace("PATH", "x" * 300) for word in command]
    module = importlib.import_module(name)
    main = module.main if hasattr(module, "main") else importlib.import_module(f"{name}.__main__").main
    assert main(arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    assert "File name too long" in line


def test_a_path_in_a_folder_that_may_not_be_searched_is_told_in_one_line(tmp_path, capsys):
    (tmp_path / "closed").mkdir(0)
    user = os.geteuid()
    if user == 0:  # whom no permissions stop
        os.seteuid(65_534)
    try:
        assert evaluate([str(tmp_path / "closed" / "run")]) == 2
    finally:
        os.seteuid(user)
    (line,) = capsys.readouterr().err.splitlines()
    way_out = "cannot be used (Permission denied); correct the permissions, or give another path"
    assert line == f"error: {tmp_path / 'closed' / 'run' / 'config.json'}: {way_out}"


@pytest.mark.parametrize(
    "command",
    [["training.run", "--data-dir", ".", "--out", "loop"], ["serving.index", "x.parquet", "--out", "loop"]],
    ids=" ".join,
)
def test_a_loop_of_links_is_told_in_one_line(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    name, *arguments = command
    assert importlib.import_module(name).main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {tmp_path / 'loop'}: is a loop of links; give another path"
