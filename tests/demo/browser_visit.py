"""One visitor of the demo's page in a real browser."""

import re

from serving.headless_chromium import find_chromium

CHROMIUM = find_chromium()
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
PATIENCE_MS = 60_000  # a machine can be busy with other things


class Visit:
    """One visitor's page, with what its console and its network log said."""

    def __init__(self, browser, address, width=1280, height=900, theme="light", ready=True):
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(PATIENCE_MS)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        if not ready:
            return
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
