"""The files of a site that need neither Node.js nor a browser: examples, licences, and what is loaded when."""

import json
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import soundfile

from demo.bundle_choice import FROM_SCRATCH, SHIPPED
from export.web.packing import SUFFIX
from export.web.site_files import RUNTIMES, write_site_files
from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import write_manifest
from serving.errors import UsageError
from tests.bundle_copies import copy_bundle, open_bundle_unchecked, write_small_glove

RATE_HZ = 16_000


@pytest.fixture
def empty_page(tmp_path) -> Path:
    """The files of a built page, without content."""
    page = tmp_path / "page"
    (page / "runtime").mkdir(parents=True)
    for name in ("service-worker.js", "licences.txt", *(f"runtime/{stem}.mjs" for stem in RUNTIMES.values())):
        (page / name).write_text("")
    for stem in RUNTIMES.values():
        (page / "runtime" / f"{stem}.wasm{SUFFIX}").write_bytes(b"")
    return page


def small_examples(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for i, name in enumerate(names):
        soundfile.write(folder / name, np.full(800, 0.1 * i), RATE_HZ)
    return folder


def test_an_example_with_any_name_has_an_address_that_means_itself(tmp_path, empty_page):
    examples = small_examples(tmp_path / "examples", "a#1.wav", "50%.wav", "a b?.wav")
    (tmp_path / "site").mkdir()
    write_site_files(tmp_path / "site", empty_page, open_bundle(FROM_SCRATCH), "fp32", False, examples)
    listed = json.loads((tmp_path / "site" / "site.json").read_text())["examples"]
    assert {each["name"] for each in listed} == {"a#1", "50%", "a b?"}
    for each in listed:
        assert quote(each["url"]) == each["url"]
        assert (tmp_path / "site" / each["url"]).is_file()
        assert f'"{each["url"]}"' in (tmp_path / "site" / "service-worker.js").read_text()


@pytest.mark.parametrize("content", ["{broken", "[" * 100_000, '{"rain": "rain"}', '{"rain": [1]}', "[]", b"\xff"])
def test_labels_of_examples_that_cannot_be_used_are_one_line(tmp_path, empty_page, content):
    examples = small_examples(tmp_path / "examples", "rain.wav")
    (examples / "labels.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "site").mkdir()
    with pytest.raises(UsageError, match=r"labels\.json: .*wanted a JSON object of lists of texts"):
        write_site_files(tmp_path / "site", empty_page, open_bundle(FROM_SCRATCH), "fp32", False, examples)


def test_a_site_names_the_licences_of_everything_that_is_in_it(tmp_path, empty_page):
    def licences(bundle: Path, text_model: bool) -> str:
        folder = tmp_path / f"{bundle.name}-{text_model}"
        folder.mkdir()
        write_site_files(folder, empty_page, open_bundle(bundle), "fp32", text_model, None)
        return (folder / "licences.txt").read_text()

    copy = copy_bundle(FROM_SCRATCH, tmp_path / "with_text", models=["fp32"])
    write_small_glove(copy / "text" / "glove.npz", ["rain"])
    for name in ("minilm.onnx", "tokenizer.json"):
        (copy / "text" / name).write_text("")
    write_manifest(copy, open_bundle_unchecked(copy))
    shipped = licences(SHIPPED, False)
    assert "YAMNet" in shipped
    assert "GloVe" not in shipped
    text = licences(copy, True)
    assert "all-MiniLM-L6-v2" in text
    assert "GloVe 6B 50d" in text
    assert "YAMNet" not in text
    worker = (tmp_path / "with_text-True" / "service-worker.js").read_text()
    record = json.loads(worker.split(" = ")[1].split(";\n")[0])
    assert {
        Path(name).name.split("-")[1].split(".")[0] for name in record["on_demand"] if name.startswith("text/")
    } == {
        "glove",
        "minilm",
        "tokenizer",
    }
    assert not [name for name in record["files"] if name.startswith("text/")]
