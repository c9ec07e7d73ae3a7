"""What the start of the demo leaves out, because it takes seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Imports and builds the page, and prints the type stubs that were opened and the programs that were started.
WATCHED = """
import sys

seen = []

def watch(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".pyi") or event == "subprocess.Popen":
        seen.append((event, str(arguments[0])))

sys.addaudithook(watch)
from demo.gradio_import import import_page

page = import_page()
from demo.bundle_choice import FROM_SCRATCH, BundleChoice
from demo.examples import EXAMPLE_SOUNDS, pick_examples

page.build_page(BundleChoice({"one": FROM_SCRATCH}), pick_examples(EXAMPLE_SOUNDS))
print(*seen, sep="\\n")
"""


@pytest.fixture(scope="module")
def seen(without_torch) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED], cwd=ROOT, env=without_torch, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_gradio_makes_no_type_stubs(seen):
    assert ".pyi" not in seen


def test_no_program_is_started_for_the_examples(seen):
    assert "ffprobe" not in seen
    assert "Popen" not in seen


def test_what_is_left_out_of_gradio_is_nothing_that_the_page_imports():
    import inspect

    from demo.gradio_import import import_page

    real = inspect.getfile
    page = import_page()
    assert inspect.getfile is real
    assert page.__name__ == "demo.gradio_page"
