"""benchmarks.web measures a site that export.web wrote."""

import json

import pytest

from benchmarks.web import main
from tests.demo.browser_visit import CHROMIUM
from tests.export.test_web import HELICOPTER, apart, built_page, site  # noqa: F401


@pytest.mark.browser
def test_it_times_windows_and_openings_and_counts_bytes(site, tmp_path, capsys):  # noqa: F811
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it, for example with apt install chromium")
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    flags = ["--repeats", "2", "--openings", "1", "--sound", str(HELICOPTER), "--out", str(tmp_path)]
    assert apart(main, [str(site), *flags]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {(row["threads"], row["windows"]) for row in record["rows"]} >= {(1, 1), (1, 8)}
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in record["rows"])
    (opening,) = record["openings"]
    first = sum(json.loads((site / "site.json").read_text())["files"][name]["bytes"] for name in ("wasm", "model"))
    assert opening["first_bytes"] > first
    assert opening["second_bytes"] == 0  # all of it was kept
    assert (tmp_path / "web.md").is_file()


@pytest.mark.parametrize(
    ("flags", "told"),
    [(["/nowhere"], "has no site.json"), (["/nowhere", "--repeats", "0"], "--repeats: got 0")],
)
def test_wrong_flags_are_one_line(capsys, flags, told):
    assert main(flags) == 2
    assert told in capsys.readouterr().err
