"""A missing package is reported with the extra that has it."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from serving.backends.cuda_api import load_cuda
from serving.backends.tensorrt_flavours import FLAVOURS
from serving.errors import UsageError
from serving.extras import pip_install
from serving.headless_chromium import NoBrowserError, open_chromium

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
SOURCES = [
    path for top in ("training", "export", "serving", "demo", "benchmarks") for path in (ROOT / top).rglob("*.py")
]


def test_two_extras_are_two_commands_to_choose_from():
    assert pip_install("a", "b") == 'pip install -e ".[a]" or pip install -e ".[b]" in the clone of unheard'


def test_every_extra_that_a_message_names_is_one_of_the_project():
    named = {name for path in SOURCES for name in re.findall(r"pip_install\(['\"]([^'\"]+)", path.read_text())}
    assert {"openvino", "web"} <= named
    assert named | set(FLAVOURS) <= set(EXTRAS)


def test_without_cuda_python_either_extra_of_tensorrt_is_offered(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)  # an import of it fails
    with pytest.raises(UsageError) as error:
        load_cuda()
    assert pip_install(*FLAVOURS) in str(error.value)


def test_without_playwright_the_extra_web_is_named(monkeypatch):
    monkeypatch.setattr("serving.headless_chromium.find_chromium", lambda: "chromium")
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(NoBrowserError) as error, open_chromium():
        pass
    assert pip_install("web") in str(error.value)
