"""Measure a site that export.web wrote, in headless Chromium: time of a window, and from opening the page to a name.

    python -m benchmarks.web site/
    python -m benchmarks.web site/ --sound demo/example_sounds/helicopter.ogg

A plain server of this machine serves the site. On the first visit the page runs in one thread; on the second one its
service worker has made it cross-origin isolated, so it can have as many as there are cores. Bytes are counted as they
come over the wire.
"""

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from benchmarks.inputs import check_range
from benchmarks.study import Study, TextTable, digits
from benchmarks.turns import percentiles
from serving.command_line import run_command
from serving.errors import UsageError
from serving.headless_chromium import FolderServer, open_chromium, serve_folder

WARM_UP = 5
# Notes when the first name is on the page.
WATCH = """
new MutationObserver((_, observer) => {
  if (!document.querySelector("#ranking .bars li, #ranking .heard li")) return;
  window.firstName = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
BATCHES = (1, 8)  # windows in one call; the page sends up to 8
PATIENCE_MS = 120_000


@dataclass(frozen=True)
class Options:
    """Measure p50 and p95 of one window and windows a second by backend and threads, bytes, and time to a name."""

    site: Annotated[Path, tyro.conf.Positional]
    """folder that export.web wrote"""
    sound: Path = Path("demo/example_sounds/helicopter.ogg")
    """sound file that is named"""
    repeats: int = 50
    """how often a window is timed, after 5 calls of warm-up"""
    openings: int = 5
    """how often the page is opened by a new visitor"""
    out: Path = Path("runs/web")
    """folder for web.json, .csv and .md, which are replaced"""


@dataclass(frozen=True)
class WebRow:
    """One backend, with so many threads and windows in one call."""

    backend: str
    threads: int
    windows: int
    p50_ms: float
    p95_ms: float
    windows_a_second: float


def measure(options: Options) -> dict[str, Any]:
    """Run the command."""
    check_range("--repeats", options.repeats, 1, 10**5)
    check_range("--openings", options.openings, 1, 10**4)
    if not (options.site / "site.json").is_file():
        raise UsageError(f"{options.site}: has no site.json; write a site with: python -m export.web BUNDLE --out SITE")
    if not options.sound.is_file():
        raise UsageError(f"--sound: {options.sound}: no such file; give a sound file")
    study = Study("web", options.out)
    site = json.loads((options.site / "site.json").read_text())
    with serve_folder(options.site) as server, open_chromium() as browser:
        openings = [_time_opening(browser, server, options.sound) for _ in range(options.openings)]
        rows, not_measured = _time_windows(browser, server.address, options.repeats)
        record = study.record(
            site={name: site[name] for name in ("bundle", "network", "precision", "window")},
            browser=f"Chromium {browser.version}",
            openings=openings,
            not_measured=not_measured,
            rows=[asdict(row) for row in rows],
        )
    study.write(record, rows, [_opening_table(openings), _window_table(rows)], _conditions(record))
    return record


def _time_opening(browser: Any, server: FolderServer, sound: Path) -> dict[str, float]:
    """Seconds from opening the page to the first name, by a new visitor and again by the same one; bytes of the first.

    The server does not compress, so the bytes of the files are those on the wire.
    """
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(WATCH)
    found: dict[str, float] = {}
    for visit in ("first", "second"):
        server.sent.clear()
        page.goto(server.address, wait_until="commit")
        page.set_input_files("#sound input[type=file]", sound)
        page.wait_for_function("() => window.firstName")
        found[f"{visit}_s"] = page.evaluate("() => window.firstName") / 1000  # since the navigation began
        found[f"{visit}_bytes"] = sum(size for _, size in server.sent)
        page.evaluate("() => navigator.serviceWorker.ready")
    context.close()
    return found


def _time_windows(browser: Any, address: str, repeats: int) -> tuple[list[WebRow], dict[str, str]]:
    """Time the model in each way that this browser runs it."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    rows: list[WebRow] = []
    not_measured: dict[str, str] = {}
    page.goto(address)
    page.wait_for_function("() => window.unheard")
    rows += _time_engine(page, page.evaluate("() => window.unheard.ready()"), repeats)
    page.evaluate("() => navigator.serviceWorker.ready")
    page.reload()
    page.wait_for_function("() => window.unheard")
    facts = page.evaluate("() => window.unheard.use('wasm', navigator.hardwareConcurrency)")
    if facts["threads"] > 1:
        rows += _time_engine(page, facts, repeats)
    else:
        not_measured["WebAssembly with threads"] = "one core, or the page is not cross-origin isolated"
    if page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
        rows += _time_engine(page, page.evaluate("() => window.unheard.use('webgpu')"), repeats)
    else:
        not_measured["WebGPU"] = "this browser has no adapter"
    context.close()
    return rows, not_measured


def _time_engine(page: Any, facts: dict[str, Any], repeats: int) -> list[WebRow]:
    rows = []
    for windows in BATCHES:
        code = "([windows, repeats]) => window.unheard.time(windows, repeats)"
        times = page.evaluate(code, [windows, WARM_UP + repeats])[WARM_UP:]
        found = percentiles(np.array(times) * 1e6)
        speed = 1000 * windows / found.p50_ms
        rows.append(WebRow(facts["backend"], facts["threads"], windows, found.p50_ms, found.p95_ms, speed))
    return rows


def _opening_table(openings: list[dict[str, float]]) -> TextTable:
    lines = []
    for name, title in (("first", "first visit"), ("second", "second visit")):
        times = [opening[f"{name}_s"] for opening in openings]
        megabytes = float(np.median([opening[f"{name}_bytes"] for opening in openings])) / 1e6
        lines.append([title, digits(float(np.median(times))), digits(max(times)), digits(megabytes)])
    return TextTable("from opening the page to the first name", ["", "median, s", "slowest, s", "MB"], lines)


def _window_table(rows: list[WebRow]) -> TextTable:
    lines = [
        [
            row.backend,
            str(row.threads),
            str(row.windows),
            digits(row.p50_ms),
            digits(row.p95_ms),
            digits(row.windows_a_second),
        ]
        for row in rows
    ]
    return TextTable("the model", ["backend", "threads", "windows", "p50, ms", "p95, ms", "windows a second"], lines)


def _conditions(record: dict[str, Any]) -> list[str]:
    site = record["site"]
    seconds = site["window"]["samples"] / site["window"]["rate_hz"]
    skipped = "; ".join(f"{name} ({why})" for name, why in record["not_measured"].items())
    return [
        f"{site['bundle']}: {site['network']}, {site['precision']}, windows of {seconds:g} s; {record['browser']}",
        *([f"not measured: {skipped}"] if skipped else []),
    ]


main = partial(run_command, Options, measure, "python -m benchmarks.web")

if __name__ == "__main__":
    raise SystemExit(main())
