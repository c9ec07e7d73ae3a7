"""Every state of an exported page, wide and light, narrow and dark: nothing is cut, and axe-core finds no fault.

UNHEARD_PICTURES=DIR keeps a picture of each state in DIR.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serving.headless_chromium import serve_folder
from tests.export.test_web import RATE_HZ, browser_here, built_page, chromium, site, visit  # noqa: F401
from tests.page_faults import DESKTOP, PHONE_DARK, faults_on_screens

pytestmark = pytest.mark.browser
# Contrast depends on the colour scheme, the place of things on the size. A visit begins on the first.
SCREENS = (PHONE_DARK, DESKTOP)


def first_sight(page, sounds: Path) -> None:
    page.wait_for_selector("#ranking .hint")


def name_one_sound(page, sounds: Path) -> None:
    page.get_by_role("button", name="helicopter", exact=True).click()
    page.wait_for_selector("#picture img")


def name_several_sounds(page, sounds: Path) -> None:
    page.get_by_role("button", name="four in a row", exact=True).click()
    page.wait_for_selector("#timeline .strip span")
    page.wait_for_selector("#picture img")


def name_a_minute(page, sounds: Path) -> None:
    page.set_input_files("#sound input[type=file]", sounds / "minute.wav")
    page.wait_for_selector("#picture .time b >> text=minutes")


def name_silence(page, sounds: Path) -> None:
    page.set_input_files("#sound input[type=file]", sounds / "silence.wav")
    page.wait_for_selector("#ranking .verdict >> text=nothing to hear")


def name_one_label(page, sounds: Path) -> None:
    page.locator("#labels-name textarea").fill("helicopter")
    page.get_by_role("button", name="frog", exact=True).click()
    page.wait_for_selector("#ranking >> text=nothing to compare it with")


def name_no_sound(page, sounds: Path) -> None:
    page.set_input_files("#sound input[type=file]", sounds / "bad.wav")
    page.wait_for_selector("#ranking [role=alert]")


def live_before(page, sounds: Path) -> None:
    page.get_by_role("tab", name="Live").click()
    page.wait_for_selector("#live .hint")


def live_listening(page, sounds: Path) -> None:
    page.click("#listen")
    page.wait_for_selector("#live .bars li", state="attached")


def live_stopped(page, sounds: Path) -> None:
    page.click("#listen")
    page.wait_for_selector("#live .stopped")


def live_without_microphone(page, sounds: Path) -> None:
    refuse = "async () => { throw new DOMException('', 'NotFoundError') }"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {refuse} }}")
    page.click("#listen")
    page.wait_for_selector("#live [role=alert] >> text=this machine has none")


# In this order on one page: a state leads to the next.
STATES: tuple[Callable[[object, Path], None], ...] = (
    first_sight,
    name_one_sound,
    name_several_sounds,
    name_a_minute,
    name_silence,
    name_one_label,
    name_no_sound,
    live_before,
    live_listening,
    live_stopped,
    live_without_microphone,
)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> Path:
    """Silence, more than a minute of noise and tones, and a file that is no sound."""
    folder = tmp_path_factory.mktemp("sounds")
    soundfile.write(folder / "silence.wav", np.zeros(4 * RATE_HZ), RATE_HZ)
    rng = np.random.default_rng(0)
    parts = [scale * rng.standard_normal(10 * RATE_HZ) for scale in (0.3, 0.01, 0.1, 0.002, 0.2, 0.05, 0.15)]
    soundfile.write(folder / "minute.wav", np.clip(np.concatenate(parts), -1, 1), RATE_HZ)
    (folder / "bad.wav").write_text("this is no sound")
    return folder


def test_every_state_is_whole_and_passes_wcag_aa_on_every_screen(chromium, site, sounds):  # noqa: F811
    found = []
    first = SCREENS[0]
    with serve_folder(site) as server, visit(chromium, server.address, first.width, first.height) as page:
        for state in STATES:
            state(page, sounds)
            found += faults_on_screens(page, SCREENS, f"site-{state.__name__}")
    assert found == []


def test_the_keyboard_reaches_every_control(chromium, site):  # noqa: F811
    with serve_folder(site) as server, visit(chromium, server.address) as page:
        reached = []
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText")
            )
        wanted = {"Name that sound", "choose a sound file", "Record", "helicopter", "favour new sounds", "licences"}
        assert wanted <= set(reached)
        page.get_by_role("tab", name="Name that sound").focus()
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.innerText") == "Live"
        assert page.locator("#panel-live").is_visible()
        assert not page.locator("#panel-name").is_visible()
