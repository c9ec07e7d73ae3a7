"""Every state of the page on every screen: nothing is cut, overlaps or scrolls sideways, and axe-core finds no fault.

Each state is reached once, and its page is then shown on all screens.

UNHEARD_PICTURES=DIR keeps a picture of each state in DIR.
"""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from demo.bundle_choice import BundleChoice, find_bundles
from demo.examples import EXAMPLE_SOUNDS, pick_examples
from tests.demo.browser_visit import Visit
from tests.page_faults import DESKTOP, PHONE_DARK, TABLET, faults_on_screens

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")]

RATE_HZ = 16_000
# Each width and each theme; colours move nothing, so not each pair. A visit begins on the first.
SCREENS = (PHONE_DARK, TABLET, DESKTOP)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The page as `python -m demo` shows it, served by this process."""
    from demo.gradio_page import build_page, launch_settings

    bundles = BundleChoice(find_bundles((), near=Path("no such folder")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = build_page(bundles, pick_examples(EXAMPLE_SOUNDS))
    _, address, _ = page.launch(
        server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, **launch_settings()
    )
    yield address
    page.close(verbose=False)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """Silence, a minute of examples, and a file that is no sound."""
    folder = tmp_path_factory.mktemp("sounds")
    soundfile.write(folder / "silence.wav", np.zeros(4 * RATE_HZ), RATE_HZ)
    names = ("rain", "siren", "helicopter", "frog", "wind", "hand_saw", "chirping_birds") * 2
    waves = [soundfile.read(EXAMPLE_SOUNDS / f"{name}.ogg")[0] for name in names]
    soundfile.write(folder / "minute.wav", np.concatenate(waves), RATE_HZ)
    (folder / "bad.wav").write_text("this is no sound")
    return folder


def example(visit: Visit, name: str) -> None:
    """Click an example and wait for its answer."""
    visit.page.get_by_role("button", name=name, exact=True).and_(visit.page.locator(":visible")).click()
    visit.page.wait_for_selector("#ranking .bars", state="attached")
    visit.page.wait_for_selector("#picture img")


def name_one_sound(visit: Visit, sounds: Path) -> None:
    example(visit, "helicopter")


def name_several_sounds(visit: Visit, sounds: Path) -> None:
    example(visit, "four in a row")
    visit.page.wait_for_selector("#timeline .strip")


def name_a_minute(visit: Visit, sounds: Path) -> None:
    visit.type_labels("rain, siren, helicopter, frog, wind, hand saw, chirping birds, a washing machine in a cellar")
    visit.upload(sounds / "minute.wav")
    visit.page.wait_for_selector("#picture .time b >> text=minutes")


def name_silence(visit: Visit, sounds: Path) -> None:
    visit.upload(sounds / "silence.wav")
    visit.page.wait_for_selector("#ranking .verdict >> text=nothing to hear")


def name_by_own_words(visit: Visit, sounds: Path) -> None:
    visit.page.locator(".meanings button").and_(visit.page.locator(":visible")).click()
    visit.type_labels("rotor blades beating the air\nsheep\nhelicopter")
    visit.upload(EXAMPLE_SOUNDS / "helicopter.ogg")
    visit.page.wait_for_selector("#ranking .typed", state="attached")  # the bars of several sounds are folded


def name_one_label(visit: Visit, sounds: Path) -> None:
    visit.type_labels("helicopter")
    visit.upload(EXAMPLE_SOUNDS / "helicopter.ogg")
    visit.page.wait_for_selector("#ranking >> text=nothing to compare it with")


def name_no_sound(visit: Visit, sounds: Path) -> None:
    visit.upload(sounds / "bad.wav")
    visit.page.wait_for_selector("#ranking [role=alert]")


def live_before(visit: Visit, sounds: Path) -> None:
    visit.open("Live")
    visit.page.wait_for_selector("#microphone .record-button:not(:disabled)")


def live_listening(visit: Visit, sounds: Path) -> None:
    live_before(visit, sounds)
    visit.page.click("#microphone .record-button")
    visit.bars("#live")


def live_stopped(visit: Visit, sounds: Path) -> None:
    live_listening(visit, sounds)
    visit.page.click("#microphone .stop-button")
    visit.page.wait_for_selector("#live .stopped")


def live_without_microphone(visit: Visit, sounds: Path) -> None:
    live_before(visit, sounds)
    visit.page.wait_for_timeout(200)
    visit.page.evaluate("document.querySelector('#live .card').classList.add('waiting')")
    visit.page.evaluate("dispatchEvent(new CustomEvent('microphone-fault', {detail: 'this machine has none'}))")
    visit.page.wait_for_selector("#live [role=alert]")


def similar(visit: Visit, sounds: Path) -> None:
    example(visit, "rain")
    visit.open("Find similar")
    visit.page.locator(".offer:visible").click()
    visit.page.wait_for_selector("#neighbours audio")


def similar_to_words(visit: Visit, sounds: Path) -> None:
    visit.open("Find similar")
    words = visit.page.locator("#similar-words input, #similar-words textarea")
    words.fill("rain on a tin roof")
    words.press("Enter")
    visit.page.wait_for_selector("#neighbours audio")


def teach(visit: Visit, sounds: Path) -> None:
    visit.open("Teach")
    visit.page.locator("#teach-labels textarea").fill("rain, siren, chirping birds")
    visit.page.click("#teach-start")
    visit.page.wait_for_selector("#question audio")
    for answered in range(1, 4):
        visit.page.click("#question [data-answer=yes]")
        visit.page.wait_for_selector(f"#question .facts >> text={answered} of")


def compare(visit: Visit, sounds: Path) -> None:
    example(visit, "rain")
    visit.open("Compare")
    visit.page.locator(".offer:visible").click()
    visit.page.wait_for_selector("#comparison table")


def first_sight(visit: Visit, sounds: Path) -> None:
    visit.page.wait_for_selector("#promise", state="attached")


STATES: tuple[Callable[[Visit, Path], None], ...] = (
    first_sight,
    name_one_sound,
    name_several_sounds,
    name_a_minute,
    name_silence,
    name_by_own_words,
    name_one_label,
    name_no_sound,
    live_before,
    live_listening,
    live_stopped,
    live_without_microphone,
    similar,
    similar_to_words,
    teach,
    compare,
)


@pytest.fixture
def visit(browser, address) -> Iterator[Visit]:
    """A visit on a phone, whose page follows the colour scheme of the system."""
    visit = Visit(browser, address, PHONE_DARK.width, PHONE_DARK.height, theme="system")
    yield visit
    visit.page.close()


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_every_state_is_whole_and_passes_wcag_aa_on_every_screen(visit, sounds, state):
    state(visit, sounds)
    assert faults_on_screens(visit.page, SCREENS, state.__name__) == []


def test_the_first_click_on_each_example_is_right(browser, address):
    visit = Visit(browser, address)
    for _, name, labels in pick_examples(EXAMPLE_SOUNDS):
        visit.page.get_by_role("button", name=name, exact=True).and_(visit.page.locator(":visible")).click()
        visit.page.wait_for_function(
            "labels => document.querySelector('.labels textarea').value === labels", arg=", ".join(labels)
        )
        visit.page.wait_for_function(
            "n => document.querySelectorAll('#ranking .bars li').length === n", arg=min(len(labels), 10)
        )
        heard = ["rain", "chirping birds", "siren", "helicopter"] if name == "four in a row" else [name]
        visit.page.wait_for_function(
            "heard => [...document.querySelectorAll('#ranking .heard b')].map(b => b.innerText).join() === heard",
            arg=",".join(heard),
        )
        if len(heard) == 1:
            assert visit.bars()[0][0].removesuffix(" unseen") == name
    visit.page.close()


def test_tab_reaches_every_control_and_opens_none(browser, address):
    visit = Visit(browser, address)
    reached = set()
    for _ in range(40):
        visit.page.keyboard.press("Tab")
        reached.add(
            visit.page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText")
        )
        assert visit.page.locator("[role=listbox]:visible, [role=menu]:visible").count() == 0
    assert {"Name that sound"} <= reached
    assert any("helicopter" in name for name in reached if name)
    visit.page.close()
