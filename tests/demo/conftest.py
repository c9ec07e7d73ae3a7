"""Fixtures of the demo's tests."""

import os

import pytest

from tests.demo.browser_visit import ARGUMENTS, CHROMIUM


@pytest.fixture(scope="module")
def browser(recordings):
    """Chromium whose microphone hears one of the small recordings."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it, for example with apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    heard = f"--use-file-for-fake-audio-capture={recordings / 'tone' / '0.wav'}"
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, heard])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session", autouse=True)
def own_uploads(tmp_path_factory):
    """A folder for Gradio's files that no other process uses, because Gradio empties it at its end."""
    os.environ.setdefault("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("uploads")))
