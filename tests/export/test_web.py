"""export.web: the site that it writes gives, in a browser, what Python gives, and works without a network."""

import base64
import importlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from onnx import numpy_helper

from demo.bundle_choice import FROM_SCRATCH
from export.web import page_build
from export.web.__main__ import EXAMPLES, main
from export.web.browser import open_site
from export.web.page_build import WEB, build_page
from export.web.site_files import first_bytes
from serving import headless_chromium
from serving.audio.resampling import resample
from serving.bundle.bundle_files import TEXT_CONFIG
from serving.bundle.manifest import write_manifest
from serving.embedder import Embedder
from serving.errors import BackendError, UsageError
from serving.headless_chromium import serve_folder
from tests.bundle_copies import copy_bundle, open_bundle_unchecked, write_small_glove
from tests.conftest import make_once
from tests.demo.browser_visit import ARGUMENTS, CHROMIUM
from tests.export.web_reference import write_reference

RATE_HZ = 16_000
HELICOPTER = EXAMPLES / "helicopter.ogg"


@pytest.fixture(scope="session")
def node_packages() -> None:
    """Skip where there is no Node.js, or no way to its packages."""
    try:
        page_build.install_packages()
        page_build.run_npm("looking for Node.js", "--version")
    except UsageError as error:
        pytest.skip(f"no Node.js with the page's packages: {error}")


@pytest.fixture(scope="session")
def built_page(request) -> Path:
    """The built page. Only a page that is not built needs Node.js; one that does not build is a failure, not a skip."""
    if not page_build.is_built():
        request.getfixturevalue("node_packages")
    return build_page()


@pytest.fixture(scope="session")
def site(built_page, tmp_path_factory) -> Path:
    """The site of the bundle from scratch, in INT8."""

    def make(folder: Path) -> None:
        assert export(str(FROM_SCRATCH), "--out", str(folder / "site"), "--clips", "4") == 0

    return make_once(tmp_path_factory, "site", make) / "site"


@pytest.fixture(scope="session")
def browser_here() -> None:
    """Skip where the export finds no browser."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it, for example with apt install chromium")
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def chromium(browser_here) -> Iterator[object]:
    """A browser with a microphone."""
    playwright = importlib.import_module("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def visit(chromium, address: str, width: int = 1280, height: int = 900) -> Iterator[object]:
    """A tab of a new visitor, which no request leaves the origin from and which leaves no error on the console.

    The page's policy forbids eval, by which Playwright repeats an expression: wait for functions, "() => ...".
    """
    context = chromium.new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    errors: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    context.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.wait_for_function("() => window.unheard")
    page.evaluate("() => window.unheard.ready()")
    yield page
    assert errors == []
    assert [url for url in requests if not url.startswith((address.partition("?")[0], "data:", "blob:"))] == []
    context.close()


def apart(work: Callable, *arguments):
    """Run a function that starts Playwright, of which a thread has one, while the fixture `chromium` has another."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work, *arguments).result()


def export(*arguments: str) -> int:
    return apart(main, list(arguments))


def bars(page) -> list[tuple[str, str]]:
    page.wait_for_selector("#ranking .bars li")
    labels = page.locator("#ranking .label").all_inner_texts()
    return list(zip(labels, page.locator("#ranking .share").all_inner_texts(), strict=True))


@pytest.mark.usefixtures("node_packages", "built_page")
def test_the_page_has_no_type_error_and_computes_what_python_computes(tmp_path):
    write_reference(tmp_path / "reference.json")
    environment = os.environ | {"UNHEARD_WEB_REFERENCE": str(tmp_path / "reference.json"), "NO_COLOR": "1"}
    for command in (["npm", "run", "check"], ["npm", "test"]):
        done = subprocess.run(command, cwd=WEB, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


def test_the_lock_names_no_registry():
    packages = json.loads((WEB / "package-lock.json").read_text())["packages"]
    assert [name for name, package in packages.items() if "resolved" in package] == []


@pytest.mark.browser
@pytest.mark.usefixtures("browser_here")
def test_the_site_comes_with_the_proof_that_its_page_gives_the_models_embeddings(site):
    record = json.loads((site / "parity.json").read_text())
    assert record["rows"]["probes"] == 15
    assert record["rows"]["recordings"] == 4
    assert {row["backend"] for row in record["results"]} == {"onnxruntime-web wasm", "onnxruntime-web wasm, files"}
    assert {row["batch"] for row in record["results"]} == {1, 8}
    assert all(row["faults"] == [] and row["worst_cosine"] > 0.985 for row in record["results"])


@pytest.mark.browser
def test_the_page_ranks_a_file_as_python_ranks_it(site, chromium, tmp_path):
    wave, rate_hz = soundfile.read(HELICOPTER, dtype="float32")
    loud = np.concatenate([wave, wave[::-1]])
    soundfile.write(tmp_path / "stereo.wav", np.stack([loud, 0.5 * loud], axis=1), rate_hz)
    soundfile.write(tmp_path / "paused.wav", np.concatenate([wave, np.zeros(20 * rate_hz)]), rate_hz)
    hydrophone = resample(wave, rate_hz, 2_000)  # a browser decodes at no rate below 3 kHz
    soundfile.write(tmp_path / "hydrophone.wav", hydrophone, 2_000, subtype="FLOAT")
    embedder = Embedder.load(FROM_SCRATCH, "onnxruntime", precision="int8")
    with serve_folder(site) as server, visit(chromium, server.address) as page:
        for path in (HELICOPTER, *(tmp_path / f"{name}.wav" for name in ("stereo", "paused", "hydrophone"))):
            wanted = embedder.classify(*soundfile.read(path, dtype="float32"))
            code = "([content, labels]) => window.unheard.rank(content, labels)"
            got = page.evaluate(code, [base64.b64encode(path.read_bytes()).decode(), ""])
            assert [label for label, _ in got][:3] == [label for label, _ in wanted][:3]
            # INT8 rounds after sums whose order differs; a softmax with temperature 20 multiplies 1e-3 of a cosine.
            assert dict(got) == pytest.approx(dict(wanted), abs=0.03)


@pytest.mark.browser
@pytest.mark.usefixtures("browser_here", "built_page")
def test_a_model_that_takes_log_mel_gets_the_front_end_of_its_bundle(log_mel_bundle, tmp_path):
    assert export(str(log_mel_bundle), "--out", str(tmp_path / "site"), "--precision", "fp32", "--clips", "1") == 0
    record = json.loads((tmp_path / "site" / "parity.json").read_text())
    assert min(row["worst_cosine"] for row in record["results"]) > 0.9999


@pytest.mark.browser
def test_a_visitor_names_an_example_a_file_and_other_labels(site, chromium, tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(4 * RATE_HZ), RATE_HZ)
    (tmp_path / "bad.wav").write_text("this is no sound")
    soundfile.write(tmp_path / "long.wav", np.zeros(31 * 60 * 8_000), 8_000, subtype="PCM_U8")
    with serve_folder(site) as server, visit(chromium, server.address) as page:
        page.get_by_role("button", name="helicopter", exact=True).click()
        assert bars(page)[0][0] == "helicopter"
        page.wait_for_function("() => document.querySelector('#picture img')?.naturalWidth > 100")
        page.locator("#labels-name textarea").fill("rain\nsneezing")
        page.wait_for_function("() => document.querySelectorAll('#ranking .bars li').length === 2")
        page.locator("#labels-name textarea").fill("a washing machine")
        page.wait_for_selector("#ranking [role=alert] >> text=no text model")
        page.locator("#labels-name textarea").fill("")
        page.set_input_files("#sound input[type=file]", tmp_path / "silence.wav")
        page.wait_for_selector("#ranking .verdict >> text=nothing to hear")
        assert page.inner_text("#spoken") == "nothing to hear"
        page.set_input_files("#sound input[type=file]", tmp_path / "bad.wav")
        page.wait_for_selector("#ranking [role=alert] >> text=bad.wav: this browser cannot read it")
        page.set_input_files("#sound input[type=file]", tmp_path / "long.wav")
        page.wait_for_selector("#ranking [role=alert] >> text=long.wav: has 31 minutes; a browser decodes up to 30")


@pytest.mark.browser
def test_a_long_file_is_answered_by_what_is_heard_when_and_a_click_plays(site, chromium):
    with serve_folder(site) as server, visit(chromium, server.address) as page:
        page.get_by_role("button", name="four in a row", exact=True).click()
        page.wait_for_selector("#timeline .strip span")
        page.wait_for_selector("#picture img")
        starts = page.locator("#ranking [data-seek]").evaluate_all("nodes => nodes.map(node => node.dataset.seek)")
        page.locator("#ranking .heard button").last.click()
        page.wait_for_function(f"() => document.querySelector('audio').currentTime >= {starts[-1]}")


@pytest.mark.browser
def test_a_sound_is_recorded_and_named(site, chromium):
    with serve_folder(site) as server, visit(chromium, server.address) as page:
        page.click("#record")
        page.wait_for_selector("#record.on")
        page.wait_for_timeout(700)
        page.click("#record")
        bars(page)


@pytest.mark.browser
def test_the_bytes_before_the_first_name_are_those_that_a_visitor_loads(site, chromium):
    context = chromium.new_context(service_workers="block")
    page = context.new_page()
    with serve_folder(site) as server:
        page.goto(server.address)
        page.wait_for_function("() => window.unheard")
        page.evaluate("() => window.unheard.ready()")
        page.set_input_files("#sound input[type=file]", HELICOPTER)
        page.wait_for_selector("#ranking .bars li")
        later = [size for path, size in server.sent if "frontend" in path]  # for the picture
        assert sum(size for _, size in server.sent) - sum(later) == first_bytes(site)
    context.close()


@pytest.mark.browser
def test_after_the_first_visit_it_works_without_a_network_and_in_threads(site, chromium):
    context = chromium.new_context()
    page = context.new_page()
    with serve_folder(site) as server:
        page.goto(f"{server.address}?threads=2")
        page.wait_for_function("() => window.unheard")
        assert page.evaluate("() => window.unheard.ready()")["threads"] == 1  # http.server sends no headers for more
        page.evaluate("() => navigator.serviceWorker.ready")
        (name,) = page.evaluate("() => caches.keys()")
        assert json.loads((site / "service-worker.js").read_text().split(" = ")[1].split(";\n")[0])["hash"] in name
    page.reload()  # the server has ended
    page.wait_for_function("() => window.unheard")
    facts = page.evaluate("() => window.unheard.ready()")
    assert page.evaluate("() => crossOriginIsolated")
    assert facts["threads"] == 2
    page.get_by_role("button", name="helicopter", exact=True).click()
    assert bars(page)[0][0] == "helicopter"
    page.wait_for_selector("#picture img")
    context.close()


@pytest.mark.browser
@pytest.mark.usefixtures("browser_here")
def test_a_changed_file_of_the_site_is_refused(site, tmp_path):
    folder = shutil.copytree(site, tmp_path / "site")
    (model,) = (folder / "model").glob("*embedder*")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)

    def open_it() -> None:
        with open_site(folder, 128):
            pass

    with pytest.raises(BackendError, match=r"embedder.*changed"):
        apart(open_it)


def change_sign(model: onnx.ModelProto) -> None:
    (tensor,) = (each for each in model.graph.initializer if each.name.endswith("embedding.0.weight_scale"))
    scale = numpy_helper.to_array(tensor).copy()
    scale[:8] *= -1
    tensor.CopyFrom(numpy_helper.from_array(scale, tensor.name))


@pytest.mark.browser
@pytest.mark.usefixtures("browser_here", "built_page")
def test_a_changed_sign_in_the_model_is_caught_and_nothing_is_written(tmp_path, capsys):
    folder = copy_bundle(FROM_SCRATCH, tmp_path / "bundle", models=["fp32", "int8"])
    path = folder / "embedder.int8.onnx"
    model = onnx.load(path)
    change_sign(model)
    onnx.save(model, path)
    write_manifest(folder, open_bundle_unchecked(folder))
    assert export(str(folder), "--out", str(tmp_path / "site"), "--clips", "2") == 1
    assert "cosine" in capsys.readouterr().err
    assert not (tmp_path / "site").exists()


@pytest.mark.usefixtures("built_page")
def test_without_a_browser_the_site_claims_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(headless_chromium, "PROGRAMS", ())
    assert main([str(FROM_SCRATCH), "--out", str(tmp_path / "site")]) == 0
    captured = capsys.readouterr()
    assert "not compared" in captured.err
    assert json.loads(captured.out.splitlines()[-1])["compared"] is False
    assert not (tmp_path / "site" / "parity.json").exists()
    assert (tmp_path / "site" / "index.html").is_file()


@pytest.mark.usefixtures("built_page")
def test_a_browser_that_does_not_start_is_told_and_a_site_is_written(tmp_path, capsys, monkeypatch):
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho 'error while loading shared libraries: libnss3.so' >&2\nexit 127\n")
    program.chmod(0o755)
    monkeypatch.setattr(headless_chromium, "find_chromium", lambda: str(program))
    assert export(str(FROM_SCRATCH), "--out", str(tmp_path / "site")) == 0
    captured = capsys.readouterr()
    assert f"{program} does not start (" in json.loads(captured.out.splitlines()[-1])["not_compared"]
    assert "Traceback" not in captured.err
    assert (tmp_path / "site" / "index.html").is_file()


def test_without_nodejs_an_unbuilt_page_is_one_line(tmp_path, capsys, monkeypatch):
    for name in ("package.json", "package-lock.json"):
        shutil.copy(WEB / name, tmp_path / name)
    monkeypatch.setattr(page_build, "WEB", tmp_path)
    monkeypatch.setattr(page_build.shutil, "which", lambda name: None)
    assert main([str(FROM_SCRATCH), "--out", str(tmp_path / "site")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: the page is not built, and Node.js with npm is not installed; install Node.js 20.19")
    assert not (tmp_path / "site").exists()


def test_a_change_in_one_of_two_sources_with_the_same_name_builds_the_page_again(tmp_path, monkeypatch):
    for place in ("one", "two"):
        (tmp_path / "src" / place).mkdir(parents=True)
        (tmp_path / "src" / place / "sound.ts").write_text(place)
    (tmp_path / "package-lock.json").write_text("{}")
    built = []

    def run_npm(purpose, *arguments):
        built.append(arguments[0])
        (tmp_path / "dist").mkdir(exist_ok=True)
        (tmp_path / "node_modules").mkdir(exist_ok=True)

    monkeypatch.setattr(page_build, "WEB", tmp_path)
    monkeypatch.setattr(page_build, "run_npm", run_npm)
    for _ in range(2):
        build_page()
    assert built == ["ci", "run"]
    (tmp_path / "src" / "one" / "sound.ts").write_text("changed")
    build_page()
    assert built == ["ci", "run", "run"]


@pytest.mark.usefixtures("built_page")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--precision", "fp64"], "has no fp64 model"),
        (["--clips", "-1"], "--clips: got -1"),
        (["--examples", "/nowhere"], "--examples: /nowhere"),
        (["--data-dir", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_flags_are_one_line(tmp_path, capsys, arguments, told):
    assert main([str(FROM_SCRATCH), "--out", str(tmp_path / "site"), *arguments]) == 2
    assert told in next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert not (tmp_path / "site").exists()


@pytest.mark.usefixtures("built_page")
def test_another_content_is_another_cache(site, tmp_path):
    def cache(folder: Path) -> str:
        return (folder / "service-worker.js").read_text().partition('"hash": "')[2][:16]

    examples = tmp_path / "examples"
    examples.mkdir()
    shutil.copy(HELICOPTER, examples)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(headless_chromium, "PROGRAMS", ())
        for name in ("one", "same"):
            assert main([str(FROM_SCRATCH), "--out", str(tmp_path / name), "--examples", str(examples)]) == 0
    assert cache(tmp_path / "one") == cache(tmp_path / "same") != cache(site)


@pytest.mark.browser
def test_typed_labels_get_pythons_vectors(built_page, chromium, tmp_path, monkeypatch):
    from export.text_model_writer import write_minilm

    folder = copy_bundle(FROM_SCRATCH, tmp_path / "bundle", models=["fp32", "int8"])
    text = folder / TEXT_CONFIG
    write_small_glove(text.with_name("glove.npz"), ["air", "blades", "cafe", "cups", "rotor", "wolf"])
    write_minilm(text.with_name("minilm.onnx"), text.with_name("tokenizer.json"))
    write_manifest(folder, open_bundle_unchecked(folder))
    monkeypatch.setattr(headless_chromium, "PROGRAMS", ())  # the proof of parity is another test's
    assert main([str(folder), "--out", str(tmp_path / "site"), "--text-model"]) == 0
    labels = ["rotor blades beating the air", "sheep", "a café: cups & plates", "wolf_howl"]
    embedder = Embedder.load(folder, "onnxruntime")
    wanted = embedder.labels.encode(labels)
    with serve_folder(tmp_path / "site") as server, visit(chromium, server.address) as page:
        got = page.evaluate("labels => window.unheard.encodeLabels(labels)", labels)
        # Both run the same graph, whose sums in FP32 have another order in WebAssembly.
        np.testing.assert_allclose(np.array(got["rows"]), wanted, atol=1e-5)
        assert dict(got["unknown"]) == {
            label: embedder.labels.unknown_words([label]).get(label, []) for label in labels
        }
        refused = "labels => window.unheard.encodeLabels(labels).catch(error => error.message)"
        assert "knows none of its words" in page.evaluate(refused, ["zxqvwy qqqq"])
        page.locator("#labels-name textarea").fill("rotor blades beating the air\nsheep\nhelicopter")
        page.set_input_files("#sound input[type=file]", HELICOPTER)
        page.wait_for_selector("#ranking .typed")
        assert len(bars(page)) == 3
    assert_typed_labels_work_offline(tmp_path / "site", chromium)


def assert_typed_labels_work_offline(site: Path, chromium) -> None:
    """A visitor who typed no label has not loaded the text model; one who typed one has kept it."""
    keys = "(await (await caches.open((await caches.keys())[0])).keys())"
    texts = f"async () => {keys}.filter(each => each.url.includes('/text/')).length"
    context = chromium.new_context()
    page = context.new_page()
    with serve_folder(site) as server:
        page.goto(server.address)
        page.wait_for_function("() => window.unheard")
        page.evaluate("() => navigator.serviceWorker.ready")
        assert page.evaluate(texts) == 0
        assert not [path for path, _ in server.sent if "/text/" in path]
        page.locator("#labels-name textarea").fill("rotor blades\nhelicopter")
        page.set_input_files("#sound input[type=file]", HELICOPTER)
        page.wait_for_selector("#ranking .typed")
        while page.evaluate(texts) < 3:
            page.wait_for_timeout(100)
    page.reload()  # the server has ended
    page.wait_for_function("() => window.unheard")
    page.locator("#labels-name textarea").fill("rotor blades\nhelicopter")
    page.set_input_files("#sound input[type=file]", HELICOPTER)
    page.wait_for_selector("#ranking .typed")
    context.close()
