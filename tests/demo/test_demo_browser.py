"""The demo's page in a real browser: what a visitor sees."""

import re
import shutil
import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from demo.bundle_choice import BundleChoice
from demo.examples import pick_examples
from serving.audio import level_dbfs, read_audio
from serving.backends.runtime import Runtime
from serving.embed import main as embed
from serving.embedder import Embedder
from tests.talking_bundle import write_talking_bundle

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
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
# What the browser's own player says of a file that is no sound.
PLAYERS = ("Method not implemented.", "Waveform load error: MediaError")
TABS = ("Name that sound", "Live", "Find similar", "Compare")
PATIENCE_MS = 60_000  # a machine can be busy with other things


class Slowed:
    """A runtime that takes `seconds` longer than it needs."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.name, self.version, self.providers = runtime.name, runtime.version, runtime.providers
        self.seconds = 0.0

    def __call__(self, batch):
        time.sleep(self.seconds)
        return self.runtime(batch)


@pytest.fixture(scope="module")
def talking(bundle_folder, tmp_path_factory) -> Embedder:
    """A bundle that understands typed words."""
    return Embedder.load(write_talking_bundle(bundle_folder, tmp_path_factory.mktemp("talking") / "talking"))


@pytest.fixture(scope="module")
def bundles(talking, bundle_folder) -> BundleChoice:
    """Two bundles to choose from; the first one's runtime can be slowed."""
    bundles = BundleChoice({"talking": talking.bundle.folder, "mute": bundle_folder})
    first = bundles.open("talking")
    first.runtime = Runtime(Slowed(first.runtime))
    return bundles


@pytest.fixture(scope="module")
def address(bundles, recordings, bundle_folder, tmp_path_factory):
    """The page of the small bundles, served by this process."""
    from demo.gradio_page import build_page, launch_settings
    from demo.library import read_library

    out = tmp_path_factory.mktemp("library") / "small.parquet"
    assert embed([str(bundle_folder), str(recordings), "--out", str(out)]) == 0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = build_page(bundles, pick_examples(recordings), read_library(out))
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

    def __init__(self, browser, address, width=1280, height=900, theme="light"):
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(f"{address}?__theme={theme}")
        self.page.wait_for_selector("#sound input[type=file]", state="attached")

    def open(self, tab):
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def upload(self, path, where="#sound"):
        self.page.set_input_files(f"{where} input[type=file]", path)

    def clear(self):
        self.page.click("#sound button[aria-label=Clear]")
        self.page.wait_for_selector("text=the ranking appears here.")

    def type_labels(self, text):
        self.page.locator(".labels textarea:visible").fill(text)

    def bars(self, where="#ranking") -> list[tuple[str, str]]:
        """(label, share) as they are read on the page, once they are there."""
        self.page.wait_for_selector(f"{where} .bars li")
        labels = self.page.locator(f"{where} .label").all_inner_texts()
        return list(zip(labels, self.page.locator(f"{where} .share").all_inner_texts(), strict=True))

    def wait_for_first(self, label, where="#ranking"):
        self.page.wait_for_function(
            "([where, label]) => document.querySelector(`${where} .bars .label`)?.innerText.startsWith(label)",
            arg=[where, label],
        )

    def heard_s(self) -> float:
        """How much sound the last live answer is about, in all."""
        return float(re.search(r"of ([\d.]+) s", self.page.inner_text("#live .facts"))[1])

    def level_dbfs(self) -> float:
        """How loud the last live answer calls its sound."""
        return float(re.search(r"(-?\d+) dB", self.page.inner_text("#live .facts"))[1])

    def scrolls_sideways(self) -> bool:
        return self.page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.fixture
def visit(browser, address) -> Iterator[Visit]:
    """A visit, which no request leaves the machine from and which leaves no error on the console."""
    visit = Visit(browser, address)
    yield visit
    visit.page.close()
    # The browser's own player says so of a file that is no sound.
    assert [
        error for error in visit.errors if error not in ("Method not implemented.", "Waveform load error: MediaError")
    ] == []
    assert [url for url in visit.requests if not url.startswith((address, "data:", "blob:"))] == []


def test_an_uploaded_sound_shows_its_ranked_bars_and_picture(visit, recordings, talking):
    path = recordings / "clicks" / "0.wav"
    visit.upload(path)
    assert visit.bars() == [(label, f"{share:.1%}") for label, share in talking.classify(*read_audio(path))]
    visit.page.wait_for_function("document.querySelector('#picture img')?.naturalWidth > 100")
    facts = visit.page.inner_text("#ranking .facts")
    stages = r"decode [\d.]+ ms\s*resample [\d.]+ ms\s*model [\d.]+ ms"
    assert re.search(rf"3\.00 s, mono, 16000 Hz\s*peak -\d+ dBFS\s*{stages}", facts)
    assert f"{talking.backend}, fp32" in facts


def test_the_header_says_what_is_running(visit, talking):
    header = visit.page.inner_text("#header")
    for fact in ("talking", talking.manifest.network, talking.manifest.dataset, talking.backend):
        assert fact in header


def test_an_example_answers_a_click_and_clear_resets_the_page(visit):
    visit.page.get_by_role("button", name="noise").click()
    assert visit.bars()[0][0] == "noise"
    visit.clear()
    assert visit.page.inner_text("#picture").strip() == ""


def test_labels_typed_after_the_sound_are_ranked_at_once_and_unseen_ones_marked(visit, recordings):
    visit.upload(recordings / "noise" / "0.wav")
    visit.wait_for_first("noise")
    visit.type_labels("whistle\nhiss\ntone")
    visit.wait_for_first("hiss")
    assert visit.bars()[0][0] == "hiss unseen"
    assert sorted(label for label, _ in visit.bars()) == ["hiss unseen", "tone", "whistle unseen"]
    assert "the model has only its words" in visit.page.inner_text("#ranking .kinds")


def test_the_offset_lets_unseen_labels_pass_seen_ones(visit, recordings):
    visit.type_labels("noise, hiss, tone")
    visit.upload(recordings / "noise" / "0.wav")
    visit.wait_for_first("noise")
    visit.page.get_by_role("spinbutton", name="offset").and_(visit.page.locator(":visible")).fill("3")
    visit.wait_for_first("hiss")


def test_a_preset_fills_the_labels(visit, recordings):
    visit.upload(recordings / "noise" / "0.wav")
    visit.bars()
    visit.page.get_by_label("start from").and_(visit.page.locator(":visible")).click()
    visit.page.get_by_role("option", name="FSC22").click()
    visit.page.wait_for_function("document.querySelector('.labels textarea').value.includes('wolf howl')")
    visit.page.wait_for_selector("#ranking >> text=the text model knows none of its words")  # it knows six words


def test_a_bundle_that_understands_no_other_words_says_so(visit, recordings):
    visit.page.get_by_label("bundle", exact=True).click()
    visit.page.get_by_role("option", name="mute").click()
    visit.page.wait_for_selector("text=This bundle came without its text model")
    visit.upload(recordings / "tone" / "0.wav")
    visit.wait_for_first("tone")
    visit.type_labels("hiss, tone")
    visit.page.wait_for_selector("#ranking [role=alert] >> text=this bundle knows clicks, noise, tone")
    visit.type_labels("noise, tone")
    visit.wait_for_first("tone")


def test_a_long_sound_shows_its_windows_and_a_timeline_of_their_labels(visit, recordings, tmp_path):
    parts = [np.resize(read_audio(recordings / kind / "0.wav")[0][:, 0], 76_800) for kind in ("noise", "tone")]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts), RATE_HZ)
    visit.upload(tmp_path / "long.wav")
    visit.page.wait_for_selector("#timeline .strip")
    assert visit.page.locator("#picture .windows span").all_inner_texts() == ["window 1", "window 2"]
    assert visit.page.locator("#timeline .strip span").all_inner_texts() == ["noise", "tone"]
    assert re.match(r"0:00\.0 to 0:04\.8 noise \d+%", visit.page.locator("#timeline li").first.inner_text())


def test_the_microphone_is_heard(visit):
    visit.page.click("#sound [data-testid=source-select] button >> nth=1")
    visit.page.click("#sound .record-button")
    visit.page.wait_for_timeout(4_500)
    visit.page.click("#sound .stop-button")
    assert visit.bars()[0][0] == "tone"  # what Chromium's processing for calls leaves of one is more like clicks
    assert float(visit.page.inner_text("#ranking .facts").split(" s")[0]) > 3


def test_a_steady_sound_stays_as_loud_as_it_is(visit, recordings):
    visit.open("Live")
    visit.page.click("#microphone .record-button")
    visit.bars("#live")
    visit.page.wait_for_timeout(4_000)  # in which a browser that readies its microphone for calls takes it for noise
    assert abs(visit.level_dbfs() - level_dbfs(read_audio(recordings / "tone" / "0.wav")[0])) < 2


def test_live_answers_come_again_and_again_and_end_with_the_microphone(visit):
    visit.open("Live")
    visit.page.click("#microphone .record-button")
    visit.wait_for_first("tone", "#live")
    heard = set()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        heard.add(visit.heard_s())
        visit.page.wait_for_timeout(50)
    assert len(heard) >= 4  # of 12: how many depends on what else the machine does
    visit.page.click("#microphone .stop-button")
    visit.page.wait_for_timeout(2_000)
    last = visit.heard_s()
    visit.page.wait_for_timeout(2_000)
    assert visit.heard_s() == last
    visit.page.click("#microphone .record-button")  # a new start has forgotten the old sound
    visit.page.wait_for_selector("#live >> text=Listening")
    visit.page.wait_for_selector("#live .facts")
    assert visit.heard_s() < last


def test_a_slow_machine_answers_rarely_but_about_the_newest_sound(visit, bundles):
    visit.open("Live")
    bundles.open("talking").runtime.network.seconds = 1.2  # three pieces of sound
    try:
        start = time.monotonic()
        visit.page.click("#microphone .record-button")
        visit.page.wait_for_timeout(12_000)
        lag_s = (time.monotonic() - start) - visit.heard_s()
        visit.page.click("#microphone .stop-button")
    finally:
        bundles.open("talking").runtime.network.seconds = 0.0
    assert lag_s < 6  # all pieces in turn would take 36 s: 8 s late by now


def test_similar_sounds_are_listed_and_played(visit, recordings):
    visit.open("Find similar")
    assert visit.page.locator("#map .dot").count() == 24
    visit.upload(recordings / "clicks" / "0.wav", "#similar-sound")
    visit.page.wait_for_selector("#neighbours audio")
    first = visit.page.locator("#neighbours li").first
    assert first.inner_text().split("\n")[0] == "clicks"
    assert "1.000" in first.inner_text()
    visit.page.wait_for_selector("#map .query")
    assert visit.page.locator("#map .near").count() == 6
    first.locator("audio").evaluate("player => player.play()")
    visit.page.wait_for_function("document.querySelector('#neighbours audio').currentTime > 0.1")


def test_the_map_plays_a_recording_by_click_and_by_keys(visit):
    visit.open("Find similar")
    visit.page.locator("#map .dot").nth(3).click(force=True)
    visit.page.wait_for_selector("#playing audio")
    visit.page.wait_for_function("document.querySelector('#playing audio').currentTime > 0.1")  # by itself
    played = visit.page.inner_text("#playing")
    start = visit.page.evaluate("document.querySelector('#map .dot[tabindex=\"0\"]').dataset.row")
    visit.page.locator("#map .dot[tabindex='0']").focus()
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "ArrowRight"):
        visit.page.keyboard.press(key)
    focused = visit.page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused
    if visit.page.evaluate("document.activeElement.dataset.row") == start:
        visit.page.keyboard.press("ArrowLeft")
    focused = visit.page.evaluate("document.activeElement.getAttribute('aria-label')")
    visit.page.keyboard.press("Enter")
    assert focused.split(": ")[1] not in played
    visit.page.wait_for_selector(f"#playing >> text={focused.split(': ')[1]}")


def test_runtimes_are_compared_side_by_side(visit, recordings):
    visit.open("Compare")
    visit.upload(recordings / "tone" / "0.wav", "#compare-sound")
    visit.page.wait_for_selector("#comparison table")
    rows = visit.page.locator("#comparison tbody tr").all_inner_texts()
    assert [row.split()[0] for row in rows] == ["onnxruntime", "openvino"]
    assert all(re.search(r"FP32\s+(1\.0+|0\.9999\d+)\s+[\d.]+ ms\s+tone", row) for row in rows)
    visit.page.click("#comparison summary")
    assert "tensorrt" in visit.page.inner_text("#comparison details")


@pytest.mark.parametrize(
    ("tab", "where", "answer"),
    [
        ("Name that sound", "#sound", "#ranking"),
        ("Find similar", "#similar-sound", "#neighbours"),
        ("Compare", "#compare-sound", "#comparison"),
    ],
)
def test_a_file_that_is_no_sound_gets_a_reason_and_the_next_one_an_answer(
    visit, recordings, tmp_path, tab, where, answer
):
    (tmp_path / "bad.wav").write_text("this is no sound")
    visit.open(tab)
    visit.upload(tmp_path / "bad.wav", where)
    visit.page.wait_for_selector(f"{answer} [role=alert] >> text=bad.wav: not a readable audio file")
    assert "Traceback" not in visit.page.content()
    visit.page.click(f"{where} button[aria-label=Clear]")
    visit.page.wait_for_selector(f"{answer} .hint:not(.refused)")
    visit.upload(recordings / "tone" / "1.wav", where)
    visit.page.wait_for_selector(f"{answer} >> text=tone")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_scrolls_up_and_down_only_on_every_tab(browser, address, recordings, theme):
    visit = Visit(browser, address, width=390, height=844, theme=theme)
    for tab, where, answer in (
        (TABS[0], "#sound", "#picture img"),
        (TABS[2], "#similar-sound", "#neighbours audio"),
        (TABS[3], "#compare-sound", "#comparison table"),
        (TABS[1], "", ""),
    ):
        visit.open(tab)
        assert not visit.scrolls_sideways()
        if where:
            visit.upload(recordings / "tone" / "0.wav", where)
            visit.page.wait_for_selector(answer)
            assert not visit.scrolls_sideways()
    assert visit.errors == []
    visit.page.close()


def test_tabs_answer_the_keyboard_and_every_control_has_a_name(visit, recordings):
    visit.upload(recordings / "tone" / "0.wav")
    visit.bars()
    visit.page.get_by_role("tab", name=TABS[0]).focus()
    for tab in TABS:
        if tab != TABS[0]:
            visit.page.keyboard.press("Tab")
            visit.page.keyboard.press("Enter")
        assert visit.page.get_by_role("tab", name=tab, exact=True).get_attribute("aria-selected") == "true"
        assert visit.page.evaluate(NAMELESS) == []


# Controls in sight that a reader of screens would call only "button" or "edit".
NAMELESS = """
[...document.querySelectorAll("button, input, textarea, select, audio, [role=img]")]
  .filter(control => control.checkVisibility() && control.type !== "file" && !control.ariaHidden)
  .filter(control => !(control.getAttribute("aria-label") || control.title || control.innerText?.trim()
                       || control.labels?.length || control.getAttribute("aria-labelledby")))
  .map(control => control.outerHTML.slice(0, 200))
"""


def test_a_sound_of_five_seconds_is_named_soon(visit, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "five.wav", 0.1 * rng.standard_normal(5 * 44_100), 44_100)
    start = time.perf_counter()
    visit.upload(tmp_path / "five.wav")
    visit.bars()
    assert time.perf_counter() - start < 20  # 0.3 s on two idle cores
