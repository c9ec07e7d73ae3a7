"""The README's commands exist, with the flags that it shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python (-m [a-z]+\.?[a-z]* ?[^\n`]*)", README)))


def test_the_readme_shows_a_command_for_each_stage():
    modules = {command.split()[1] for command in COMMANDS}
    assert modules >= {"training.run", "training.evaluate", "export.onnx", "serving", "demo", "benchmarks.latency"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_knows_the_flags_it_is_shown_with(command):
    words = shlex.split(command)
    told = subprocess.run([sys.executable, *words[:2], "--help"], capture_output=True, text=True, check=True, cwd=ROOT)
    for flag in [word for word in words if word.startswith("--")]:
        assert flag in told.stdout


@pytest.mark.parametrize("target", ["demo", "bench", "test", "check", "help", "setup"])
def test_make_knows_its_targets(target):
    done = subprocess.run(["make", "--dry-run", target], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_second_set_up_installs_nothing():
    if not (ROOT / ".venv" / "installed-from.lock").is_file():
        pytest.skip("not set up by make: .venv/installed-from.lock is not there")
    done = subprocess.run(["make", "setup"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "installing" not in done.stdout


def test_the_tree_in_the_readme_is_the_tree():
    for line in re.findall(r"^    ([a-z]+)/ ", README, flags=re.MULTILINE):
        assert (ROOT / line).is_dir()
