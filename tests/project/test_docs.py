"""The README and the pages in docs/ show commands, links and pictures that exist."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(page: Path) -> str:
    """A page's path in the project."""
    return str(page.relative_to(ROOT))


def commands(page: Path) -> list[str]:
    """What follows `python -m` on a page, on the same line or on lines that a backslash continues."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    return re.findall(r"python -m ([a-z_.]+[^\n`|>]*)", text)


SHOWN = sorted({(name(page), command.strip()) for page in PAGES for command in commands(page)})


@pytest.fixture(scope="module")
def known_flags() -> dict[str, set[str]]:
    """The flags of each command that a page shows, by its module, as its --help lists them. One process asks all."""
    modules = sorted({command.split()[0] for _, command in SHOWN})
    code = """
import contextlib, importlib, importlib.util, io, json, sys
helps = {}
for name in sys.argv[1:]:
    package = importlib.util.find_spec(name).submodule_search_locations
    main = importlib.import_module(f"{name}.__main__" if package else name).main
    with contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            main(["--help"])
        except SystemExit as end:
            assert not end.code, name
    helps[name] = told.getvalue()
print(json.dumps(helps))
"""
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, cwd=ROOT, check=True)
    helps = json.loads(done.stdout.splitlines()[-1])
    for module, told in helps.items():
        assert told.split()[:4] == ["usage:", "python", "-m", module]
    return {module: set(re.findall(r"--[a-z][a-z0-9-]*", told)) for module, told in helps.items()}


def test_the_readme_shows_a_command_for_each_stage():
    modules = {command.split()[0] for page, command in SHOWN if page == "README.md"}
    assert modules >= {"training.run", "training.evaluate", "export.onnx", "serving", "demo", "benchmarks.latency"}


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_a_command_on_a_page_knows_the_flags_it_is_shown_with(known_flags, page, command):
    module, *words = shlex.split(command, comments=True)
    shown = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert shown - known_flags[module] == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_links_and_pictures_of_a_page_exist(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    paths = [unquote(target.partition("#")[0]) for target in targets if not re.match(r"[a-z]+:", target)]
    assert [path for path in paths if not (page.parent / path).exists()] == []


def test_the_readme_has_at_most_100_lines():
    assert len(README.read_text().splitlines()) <= 100


def test_the_picture_of_the_architecture_shows_the_code_as_it_is():
    code = "import json; from draw_architecture import *; print(json.dumps([read_picture(), read_structure()]))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "docs", check=True)
    picture, structure = json.loads(done.stdout)
    assert picture == structure, "draw it again: python docs/draw_architecture.py"


@pytest.mark.parametrize("target", ["demo", "web", "bench", "test", "check", "help", "setup"])
def test_make_knows_its_targets(target):
    done = subprocess.run(["make", "--dry-run", target], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_a_second_set_up_installs_nothing():
    if not (ROOT / ".venv" / "installed-from.lock").is_file():
        pytest.skip("not set up by make: .venv/installed-from.lock is not there")
    done = subprocess.run(["make", "setup"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "installing" not in done.stdout


def test_the_tree_in_the_readme_is_the_tree():
    for line in re.findall(r"^    ([a-z]+)/ ", README.read_text(), flags=re.MULTILINE):
        assert (ROOT / line).is_dir()
