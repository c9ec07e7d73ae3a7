"""The demo's page in a real browser: what a visitor sees."""

import asyncio
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import gradio
import numpy as np
import pytest
import soundfile

from demo.bundle_choice import BundleChoice
from demo.examples import pick_examples
from serving.audio import level_dbfs, read_audio
from serving.backends.runtime import Runtime
from serving.embed import main as embed
from serving.embedder import Embedder
from tests.demo.browser_visit import Visit
from tests.talking_bundle import write_talking_bundle

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")]

RATE_HZ = 16_000
TABS = ("Name that sound", "Live", "Find similar", "Teach", "Compare")


class Slowed:
    """A runtime that takes `seconds` longer than it needs, and counts its calls."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.name, self.version, self.providers = runtime.name, runtime.version, runtime.providers
        self.seconds = 0.0
        self.calls = 0

    def __call__(self, batch):
        self.calls += 1
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
    visit.page.wait_for_function("document.querySelector('#picture').innerText.trim() === ''")


def test_labels_typed_after_the_sound_are_ranked_at_once_and_typed_ones_marked(visit, recordings):
    visit.upload(recordings / "noise" / "0.wav")
    visit.wait_for_first("noise")
    visit.type_labels("whistle\nhiss\ntone")
    visit.wait_for_first("hiss")
    assert sorted(label for label, _ in visit.bars()) == ["hiss typed by you", "tone", "whistle typed by you"]
    assert "typed by you: the model has only your words" in visit.page.inner_text("#ranking .kinds")


def test_favour_new_sounds_lets_typed_labels_pass_trained_ones(visit, recordings):
    visit.type_labels("noise, hiss, tone")
    visit.upload(recordings / "noise" / "0.wav")
    visit.wait_for_first("noise")
    visit.page.get_by_role("spinbutton", name="favour new").and_(visit.page.locator(":visible")).fill("3")
    visit.wait_for_first("hiss")


def test_a_preset_fills_the_labels(visit, recordings):
    visit.upload(recordings / "noise" / "0.wav")
    visit.bars()
    visit.page.get_by_role("radio", name="FSC22").and_(visit.page.locator(":visible")).check()
    visit.page.wait_for_function("document.querySelector('.labels textarea').value.includes('wolf howl')")
    visit.page.wait_for_selector("#ranking >> text=the text model knows none of its words")  # it knows six words


def test_a_bundle_that_understands_no_other_words_says_so(visit, recordings):
    visit.page.get_by_role("radio", name="mute").check()
    visit.page.wait_for_selector("text=This bundle came without its text model")
    visit.upload(recordings / "tone" / "0.wav")
    visit.wait_for_first("tone")
    visit.type_labels("hiss, tone")
    visit.page.wait_for_selector("#ranking [role=alert] >> text=this bundle knows clicks, noise, tone")
    visit.type_labels("noise, tone")
    visit.wait_for_first("tone")


@pytest.fixture
def long_sound(recordings, tmp_path):
    """A window of noise, a window of silence, a window of a tone: 4.8 s each."""
    noise, tone = (np.resize(read_audio(recordings / kind / "0.wav")[0][:, 0], 76_800) for kind in ("noise", "tone"))
    soundfile.write(tmp_path / "long.wav", np.concatenate([noise, np.zeros(77_040), tone]), RATE_HZ)
    return tmp_path / "long.wav"


def test_a_long_sound_is_answered_by_a_list_of_what_is_heard_when(visit, long_sound):
    visit.upload(long_sound)
    visit.page.wait_for_selector("#timeline .strip")
    assert visit.page.locator("#picture .windows span").all_inner_texts() == ["window 1", "window 2", "window 3"]
    assert visit.page.locator("#timeline .strip em").all_inner_texts() == ["noise", "tone"]
    listed = [" ".join(text.split()) for text in visit.page.locator("#ranking .heard button").all_inner_texts()]
    assert listed == ["noise 0:00-0:05", "tone 0:10-0:14"]
    visit.page.wait_for_selector("[role=status] >> text=Heard: noise 0:00 to 0:05, tone 0:10 to 0:14")


@pytest.mark.parametrize(
    ("where", "share", "seconds"),
    [("#ranking .heard button >> nth=1", 0.5, 9.6), ("#timeline .strip", 0.25, 3.6), (".picture .mel", 0.75, 10.8)],
    ids=["list", "time line", "spectrogram"],
)
def test_a_click_plays_from_there(visit, long_sound, where, share, seconds):
    visit.upload(long_sound)
    visit.page.wait_for_selector("#timeline .strip")
    visit.page.wait_for_function(PLAYER + " && player().duration > 14")
    box = visit.page.locator(where).bounding_box()
    visit.page.locator(where).click(position={"x": share * box["width"], "y": 5})
    visit.page.wait_for_function(PLAYER + " && !player().paused")
    played_s = visit.page.evaluate(PLAYER + ".currentTime")
    assert seconds - 0.2 < played_s < seconds + 3  # it plays on while the test waits
    visit.page.wait_for_function(
        "parseFloat(document.querySelector('.picture').style.getPropertyValue('--playhead')) > 5"
    )


# The player's audio element: Gradio keeps it in a shadow root.
PLAYER = """
(window.player = () => {
  const nodes = [...document.querySelectorAll("#sound [id=waveform], #sound [id=waveform] *")];
  const audio = node => node.tagName === "AUDIO" ? node : node.shadowRoot?.querySelector("audio");
  return nodes.map(audio).find(Boolean) ?? document.querySelector("#sound audio");
}) && player()
"""


@pytest.fixture(scope="module")
def hours(recordings, tmp_path_factory):
    """15 minutes, which the page does not decode whole: half of it noise, half of it a tone."""
    path = tmp_path_factory.mktemp("hours") / "20240501_060000.wav"
    halves = [np.resize(read_audio(recordings / kind / "0.wav")[0][:, 0], 450 * RATE_HZ) for kind in ("noise", "tone")]
    soundfile.write(path, np.concatenate(halves), RATE_HZ)
    return path


def test_a_recording_of_minutes_is_named_while_it_is_read_played_and_saved(visit, bundles, hours):
    slowed = bundles.open("talking").runtime.network
    slowed.seconds = 0.25
    try:
        visit.upload(hours)
        visit.page.wait_for_selector("#picture >> text=Reading.")
        assert re.search(r"read \d+:\d\d of 15:00\s*\d+ times as fast", visit.page.inner_text("#picture .facts"))
        first = visit.page.locator("#ranking .heard button").first.inner_text()
        assert " ".join(first.split()).startswith("noise 0:00-")
    finally:
        slowed.seconds = 0.0
    visit.page.wait_for_selector("#picture >> text=has no spectrogram")
    assert visit.page.locator("#timeline .strip em").all_inner_texts() == ["noise", "tone"]
    visit.page.wait_for_function(PLAYER + " && player().duration > 890")
    visit.page.locator("#ranking .heard button >> nth=1").click()
    visit.page.wait_for_function(PLAYER + " && player().currentTime > 440")
    box = visit.page.locator("#timeline .strip").bounding_box()
    visit.page.locator("#timeline .strip").click(position={"x": box["width"] / 4, "y": 5})
    visit.page.wait_for_function(PLAYER + " && Math.abs(player().currentTime - 225) < 10")
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("button", name="Download as CSV").click()
    assert saved.value.suggested_filename == "20240501_060000.csv"
    assert "2024-05-01T06:00:00.000" in saved.value.path().read_text()


def test_a_new_sound_ends_the_reading_of_a_long_one(visit, bundles, hours, recordings):
    slowed = bundles.open("talking").runtime.network
    slowed.seconds = 0.25
    try:
        visit.upload(hours)
        visit.page.wait_for_selector("#picture >> text=Reading.")
        visit.clear()
        visit.upload(recordings / "clicks" / "0.wav")
        visit.wait_for_first("clicks")
        visit.page.wait_for_timeout(3000)
        assert visit.bars()[0][0] == "clicks"
        assert visit.page.locator("#picture img").count() == 1
    finally:
        slowed.seconds = 0.0


def test_a_reload_ends_the_reading_of_a_long_recording(visit, bundles, hours):
    slowed = bundles.open("talking").runtime.network
    slowed.seconds = 0.4
    before = slowed.calls
    try:
        visit.upload(hours)
        visit.page.wait_for_selector("#picture >> text=Reading.")
        visit.page.reload()
        visit.errors.clear()  # a page that is left aborts its requests
        visit.page.wait_for_selector("#sound input[type=file]", state="attached")
        visit.page.wait_for_timeout(3000)
        read = slowed.calls
        visit.page.wait_for_timeout(2000)
        assert slowed.calls == read
        assert (read - before) * bundles.open("talking").max_batch < 180  # windows, of 188
    finally:
        slowed.seconds = 0.0


def test_silence_is_nothing_to_hear(visit, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(4 * RATE_HZ), RATE_HZ)
    visit.upload(tmp_path / "silence.wav")
    visit.page.wait_for_selector("#ranking .verdict >> text=nothing to hear")
    assert visit.page.locator("#ranking .bars.dimmed").count() == 1
    visit.page.wait_for_selector("[role=status] >> text=nothing to hear")


def test_a_sound_like_none_of_the_labels_is_called_none_of_these(visit, bundles, recordings):
    embedder = bundles.open("talking")
    usual = embedder.zeroshot
    embedder.labels.zeroshot = replace(usual, threshold=1.1)  # a cosine is never so large
    try:
        visit.upload(recordings / "noise" / "0.wav")
        visit.page.wait_for_selector("#ranking .verdict >> text=none of these")
        assert visit.page.locator("#ranking .bars.dimmed").count() == 1
    finally:
        embedder.labels.zeroshot = usual


def test_one_label_alone_gets_no_percentage(visit, recordings):
    visit.type_labels("hiss")
    visit.upload(recordings / "noise" / "0.wav")
    visit.wait_for_first("hiss")
    assert visit.bars() == [("hiss typed by you", "")]
    assert "nothing to compare it with" in visit.page.inner_text("#ranking")
    assert "%" not in visit.page.inner_text("#ranking .bars")


def test_an_own_description_replaces_the_bundles_for_that_label(visit, recordings):
    visit.upload(recordings / "tone" / "0.wav")
    visit.wait_for_first("tone")
    visit.page.locator(".meanings button").and_(visit.page.locator(":visible")).click()
    box = visit.page.locator(".descriptions textarea:visible")
    assert box.input_value() == "clicks: clicks\nnoise: noise\ntone: tone"
    box.fill("clicks: whistle\nnoise: noise\ntone: hiss")  # the meanings of the words, not the names, are compared
    visit.wait_for_first("clicks")
    assert visit.bars()[0][0] == "clicks typed by you"
    visit.type_labels("clicks, tone")
    visit.page.wait_for_function("document.querySelectorAll('#ranking .bars li').length === 2")
    assert visit.bars()[0][0] == "clicks typed by you"  # the description stays with its label
    assert box.input_value() == "clicks: whistle\ntone: hiss"


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


def late_answers(seconds: float):
    """Gradio's own function that sends results, which sends the live answers `seconds` later."""
    send = gradio.Blocks.postprocess_data

    async def send_late(page, action, *values):
        if getattr(action.fn, "__name__", "") == "show":
            await asyncio.sleep(seconds)
        return await send(page, action, *values)

    return send_late


def test_live_answers_come_again_and_again_and_end_with_the_microphone(visit, monkeypatch):
    visit.open("Live")
    visit.page.click("#microphone .record-button")
    visit.wait_for_first("tone", "#live")
    heard = set()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        heard.add(visit.heard_s())
        visit.page.wait_for_timeout(50)
    assert len(heard) >= 4  # of 12: how many depends on what else the machine does
    last = visit.heard_s()
    with monkeypatch.context() as patched:
        patched.setattr(gradio.Blocks, "postprocess_data", late_answers(1.5))
        visit.page.wait_for_timeout(600)  # an answer is on its way
        visit.page.click("#microphone .stop-button")
        visit.page.wait_for_selector("#live .stopped >> text=The last answer was: tone")
        visit.page.wait_for_timeout(2_000)
    assert visit.page.locator("#live .bars").count() == 0  # no answer looks live
    visit.page.click("#microphone .record-button")  # a new start has forgotten the old sound
    visit.page.wait_for_selector("#live .waiting, #live .warming")
    visit.page.wait_for_selector("#live .facts")
    assert visit.heard_s() < last


def test_no_answer_is_given_before_the_first_window_is_full(visit):
    visit.open("Live")
    visit.page.click("#microphone .record-button")
    visit.page.wait_for_selector("#live .warming >> text=of the first 4.8 s are heard")
    visit.bars("#live")
    assert visit.heard_s() >= 4.8


def test_what_was_heard_is_logged_and_can_be_downloaded(visit):
    visit.open("Live")
    visit.page.click("#microphone .record-button")
    visit.page.wait_for_selector("#log li >> text=tone")
    visit.page.wait_for_timeout(1_000)
    visit.page.click("#microphone .stop-button")
    with visit.page.expect_download() as download:
        visit.page.click(".save")
    assert download.value.suggested_filename == "heard.csv"
    header, *rows = download.value.path().read_text().splitlines()
    assert header == "start_s,end_s,label,probability"
    start, end, label, _ = rows[0].split(",")
    assert label == "tone"
    assert 0 <= float(start) < 5 <= float(end)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("NotAllowedError", "the browser may not use it"), ("NotFoundError", "this machine has none")],
)
def test_without_a_microphone_live_says_why(browser, address, fault, reason):
    visit = Visit(browser, address)
    visit.page.add_init_script(
        f"MediaDevices.prototype.getUserMedia = async () => {{ throw new DOMException('no', '{fault}') }}"
    )
    visit.page.reload()
    visit.open("Live")
    visit.page.click("#microphone .record-button")
    visit.page.wait_for_selector(f"#live [role=alert] >> text={reason}")
    visit.page.wait_for_timeout(1_000)
    assert "No microphone" in visit.page.inner_text("#live")
    visit.page.close()


def test_record_waits_for_the_recorder(browser, address):
    """Gradio's WAV recorder loads in the background; a click before that once ended in an error."""
    visit = Visit(browser, address, ready=False)
    held = []
    visit.page.route("**/assets/module-*.js", lambda route: held.append(route))
    visit.page.goto(address)
    visit.open("Live")
    visit.page.wait_for_selector("#microphone .record-button[data-loading]:disabled")
    for route in held:
        route.continue_()
    visit.page.unroute("**/assets/module-*.js")
    visit.page.wait_for_selector("#microphone .record-button:not(:disabled)")
    visit.page.click("#microphone .record-button")
    visit.bars("#live")
    assert visit.errors == []
    visit.page.close()


def test_a_slow_machine_answers_rarely_but_about_the_newest_sound(visit, bundles):
    visit.open("Live")
    bundles.open("talking").runtime.network.seconds = 1.2  # three pieces of sound
    try:
        visit.page.click("#microphone .record-button")
        visit.bars("#live")
        start, heard_s = time.monotonic(), visit.heard_s()
        visit.page.wait_for_timeout(7_000)
        seconds, more_s = time.monotonic() - start, visit.heard_s() - heard_s
        visit.page.click("#microphone .stop-button")
    finally:
        bundles.open("talking").runtime.network.seconds = 0.0
    assert more_s > seconds / 2  # all pieces in turn would be a third; the last answer is at most 2 s old


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


def test_words_find_recordings_alone_and_together_with_a_sound(visit, recordings):
    visit.open("Find similar")
    words = visit.page.locator("#similar-words input, #similar-words textarea")
    words.fill("ticking")
    words.press("Enter")
    visit.page.wait_for_selector("#neighbours audio")
    assert visit.page.locator("#neighbours b").all_inner_texts()[:6] == ["clicks"] * 6
    assert visit.page.locator("#map .near").count() == 6
    assert visit.page.locator("#map .query").count() == 0
    visit.upload(recordings / "clicks" / "0.wav", "#similar-sound")
    visit.page.wait_for_selector("#map .query")
    assert "standard deviations" in visit.page.locator("#neighbours .share").first.get_attribute("title")
    words.fill("zzyx")
    words.press("Enter")
    visit.page.wait_for_selector("#neighbours [role=alert] >> text=knows none of its words")
    words.fill("")
    words.press("Enter")
    visit.page.wait_for_selector("#neighbours audio")
    assert "1.000" in visit.page.locator("#neighbours li").first.inner_text()


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


def test_the_sound_of_one_tab_is_offered_in_the_others(visit, recordings):
    visit.upload(recordings / "clicks" / "0.wav")
    visit.bars()
    for tab, answer in (("Find similar", "#neighbours audio"), ("Compare", "#comparison table")):
        visit.open(tab)
        visit.page.locator(".offer:visible", has_text=": 0.wav").click()
        visit.page.wait_for_selector(answer)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_scrolls_up_and_down_only_on_every_tab(browser, address, recordings, theme):
    visit = Visit(browser, address, width=390, height=844, theme=theme)
    for tab, where, answer in (
        (TABS[0], "#sound", "#picture img"),
        (TABS[2], "#similar-sound", "#neighbours audio"),
        (TABS[4], "#compare-sound", "#comparison table"),
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
