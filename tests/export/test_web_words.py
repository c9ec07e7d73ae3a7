"""The words and numbers of web/src/demo_words.ts are the demo's: the page and the demo say the same."""

import ast
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHARED = (ROOT / "web" / "src" / "demo_words.ts").read_text()
NUMBERS = re.findall(r'^  "((?:demo|serving)\.[\w.]+)": ([-\d.]+),$', SHARED, re.MULTILINE)
# A text in single or double quotes, on the line of its name or on the next one.
WORDS = re.findall(r"""^  (\w+):\s+(?:"((?:[^"\\]|\\.)*)"|'([^']*)'),$""", SHARED, re.MULTILINE)


def texts_of(path: Path) -> set[str]:
    """The texts in a Python file, with {} for what is filled in."""

    def text(node: ast.expr) -> str:
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else ""
        if isinstance(node, ast.JoinedStr):
            return "".join("{}" if isinstance(part, ast.FormattedValue) else text(part) for part in node.values)
        return ""

    return {text(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.expr)}


@pytest.fixture(scope="module")
def demo_texts() -> str:
    return "\n".join(text for path in (ROOT / "demo").rglob("*.py") for text in texts_of(path))


def test_there_are_words_and_numbers():
    assert len(NUMBERS) > 10
    assert len(WORDS) == SHARED.partition("WORDS = {")[2].partition("\n} as const")[0].count(":\n") + len(
        re.findall(r"""^  \w+: ["']""", SHARED, re.MULTILINE)
    )


@pytest.mark.parametrize(("name", "value"), NUMBERS)
def test_a_number_is_the_demos(name, value):
    module, _, constant = name.rpartition(".")
    assert getattr(importlib.import_module(module), constant) == float(value)


@pytest.mark.parametrize(("name", "text"), [(name, double or single) for name, double, single in WORDS])
def test_a_text_is_the_demos(demo_texts, name, text):
    assert text in demo_texts, f"web/src/demo_words.ts: {name} is not in the demo any more; say what the demo says"
