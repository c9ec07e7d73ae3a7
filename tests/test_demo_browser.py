"""The demo's page in a real browser: what a visitor sees."""

import re
import shutil
import socket

import numpy as np
import pytest
import soundfile

from demo.__main__ import pick_examples
from serving.audio import read_audio

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")]

RATE_HZ = 16_000
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


@pytest.fixture(scope="module")
def address(embedder, recordings):
    """The page of the small bundle, served by this process."""
    from demo.app import build_page, launch_settings

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = build_page(embedder, pick_examples(recordings))
    _, address, _ = page.launch(
        server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, **launch_settings()
    )
    yield address
    page.close(verbose=False)


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


class Visit:
    """One visitor's page, with what its console and its network log said."""

    def __init__(self, browser, address, width=1280, height=900):
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(20_000)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("#sound input[type=file]", state="attached")

    def upload(self, path):
        self.page.set_input_files("#sound input[type=file]", path)

    def clear(self):
        self.page.click("#sound button[aria-label=Clear]")
        self.page.wait_for_selector("text=The ranking appears here.")

    def bars(self) -> list[tuple[str, str]]:
        """(class, share) as they are read on the page, once they are there."""
        self.page.wait_for_selector("#ranking .bars li")
        labels = self.page.locator("#ranking .label").all_inner_texts()
        return list(zip(labels, self.page.locator("#ranking .share").all_inner_texts(), strict=True))

    def scrolls_sideways(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.fixture
def visit(browser, address):
    visit = Visit(browser, address)
    yield visit
    visit.page.close()


def test_an_uploaded_sound_shows_its_ranked_bars_and_picture_and_nothing_leaves_the_machine(
    visit, address, recordings, embedder
):
    path = recordings / "clicks" / "0.wav"
    visit.upload(path)
    assert visit.bars() == [(label, f"{share:.1%}") for label, share in embedder.classify(*read_audio(path))]
    visit.page.wait_for_function("document.querySelector('#picture img')?.naturalWidth > 100")
    assert re.search(r"3\.00 s, mono, 16000 Hz\s*decode [\d.]+ ms", visit.page.inner_text("#picture .facts"))
    assert visit.errors == []
    assert [url for url in visit.requests if not url.startswith((address, "data:", "blob:"))] == []


def test_the_header_says_what_is_running(visit, embedder):
    header = visit.page.inner_text("#header")
    for fact in (embedder.bundle.folder.name, embedder.manifest.network, embedder.manifest.dataset, embedder.backend):
        assert fact in header


def test_an_example_answers_a_click_and_clear_resets_the_page(visit):
    visit.page.get_by_role("button", name="noise").click()
    assert visit.bars()[0][0] == "noise"
    visit.clear()
    assert visit.page.inner_text("#picture").strip() == ""


def test_a_long_sound_shows_its_windows(visit, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.wav", 0.1 * rng.standard_normal(10 * RATE_HZ), RATE_HZ)
    visit.upload(tmp_path / "long.wav")
    visit.bars()
    assert visit.page.locator("#picture .windows span").all_inner_texts() == ["window 1", "window 2"]


def test_the_microphone_is_heard(visit):
    visit.page.click("#sound [data-testid=source-select] button >> nth=1")
    visit.page.click("#sound .record-button")
    visit.page.wait_for_timeout(2_000)
    visit.page.click("#sound .stop-button")
    assert visit.bars()[0][0] == "tone"
    assert float(visit.page.inner_text("#picture .facts").split(" s")[0]) > 1


def test_a_file_that_is_no_sound_gets_a_reason_and_the_next_one_an_answer(visit, recordings, tmp_path):
    (tmp_path / "bad.wav").write_text("this is no sound")
    visit.upload(tmp_path / "bad.wav")
    visit.page.wait_for_selector("#ranking >> text=not a readable audio file")
    assert "bad.wav" in visit.page.inner_text("[data-testid=toast-body]")
    visit.clear()
    visit.upload(recordings / "tone" / "1.wav")
    assert visit.bars()[0][0] == "tone"


def test_a_phone_scrolls_up_and_down_only(browser, address, recordings):
    visit = Visit(browser, address, width=390, height=844)
    assert not visit.scrolls_sideways()
    visit.upload(recordings / "tone" / "0.wav")
    visit.bars()
    visit.page.wait_for_selector("#picture img")
    assert not visit.scrolls_sideways()
    visit.page.close()
