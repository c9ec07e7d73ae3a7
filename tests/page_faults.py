"""What is wrong with a page as a visitor sees it, on several screens: cut or crowded texts, and what axe-core finds."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

WCAG_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# What axe-core says of Gradio's own controls, which the page cannot change:
GRADIO = ("[data-testid=waveform-",)


@dataclass(frozen=True)
class Screen:
    """A size in CSS pixels and the colour scheme that the visitor's system asks for, light or dark."""

    name: str
    width: int
    height: int
    scheme: str

    def size(self) -> dict[str, int]:
        return {"width": self.width, "height": self.height}


DESKTOP = Screen("desktop", 1280, 900, "light")
TABLET = Screen("tablet", 768, 1024, "light")
PHONE_DARK = Screen("phone-dark", 390, 844, "dark")

# Two frames after a change of the screen the page has a new layout; then its transitions run to their end.
SETTLED = """
async () => {
  for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
  const ending = document.getAnimations().filter(each => each.effect.getComputedTiming().endTime < Infinity);
  await Promise.allSettled(ending.map(each => each.finished));
}
"""

# Texts that are cut or lie over a neighbour: labels of the time line, names of windows, ticks of the axes.
CROWDED = """
() => {
  const seen = node => {
    const box = node.getBoundingClientRect(), frame = node.closest(".strip")?.getBoundingClientRect();
    return !frame || box.bottom <= frame.bottom + 1 ? box : null;
  };
  const faults = [];
  for (const row of ["#timeline .strip em", "#picture .windows span", "#picture .time span"]) {
    const boxes = [...document.querySelectorAll(row)].map(node => [node, seen(node)]).filter(([, box]) => box?.width);
    boxes.sort((a, b) => a[1].left - b[1].left);
    boxes.forEach(([node, box], i) => {
      if (i && boxes[i - 1][1].right > box.left + 1) faults.push("overlap: " + node.innerText);
      const parent = node.parentElement.getBoundingClientRect();
      if (row.includes("strip") && box.right > parent.right + 1) faults.push("cut: " + node.innerText);
    });
  }
  return faults;
}
"""

# Only what breaks a rule is described and sent: of 1000 elements nearly all pass.
AXE = """
async tags => {
  const found = await axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
  return found.violations.map(({ id, nodes }) => ({ id, nodes: nodes.map(
    ({ target, failureSummary }) => ({ target: String(target), why: failureSummary })) }));
}
"""


def axe_script() -> Path:
    """The file of axe-core, or a skip with the reason."""
    package = importlib.util.find_spec("axe_playwright_python")
    if package is None or not package.submodule_search_locations:
        pytest.skip("axe-playwright-python is not installed")
    return Path(package.submodule_search_locations[0]) / "axe.min.js"


def show_on(page: Any, screen: Screen) -> None:
    """Give an open page another size and colour scheme, and wait until it has settled."""
    page.set_viewport_size(screen.size())
    page.emulate_media(color_scheme=screen.scheme)
    page.wait_for_function(
        "dark => Boolean(document.querySelector('html.dark, body.dark')) === dark", arg=screen.scheme == "dark"
    )
    page.evaluate(SETTLED)


def page_faults(page: Any) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA, what is crowded, and whether the page scrolls sideways."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(axe_script().read_text())
    found = []
    for violation in page.evaluate(AXE, WCAG_AA):
        ours = [node for node in violation["nodes"] if not any(part in node["target"] for part in GRADIO)]
        found += [f"{violation['id']}: {node['target']} {node['why'][-160:]}" for node in ours]
    found += page.evaluate(CROWDED)
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append("scrolls sideways")
    return found


def faults_on_screens(page: Any, screens: tuple[Screen, ...], picture: str) -> list[str]:
    """The faults of an open page on each screen. UNHEARD_PICTURES=DIR keeps DIR/screen-picture.png of each."""
    found = []
    for screen in screens:
        show_on(page, screen)
        if kept := os.environ.get("UNHEARD_PICTURES"):
            page.screenshot(path=Path(kept) / f"{screen.name}-{picture}.png", full_page=True)
        found += [f"{screen.name}: {picture}: {fault}" for fault in page_faults(page)]
    return found
