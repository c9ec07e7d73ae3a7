"""Write the files of a site: the built page, ONNX Runtime, the model, the class vectors, the text model, examples.

    index.html, assets/     the page (web/), with its style sheet
    service-worker.js       keeps the site for use without a network
    site.json               facts about the bundle, and the name, size and hash of each file below
    runtime/  model/        ONNX Runtime Web, and the bundle's files; most are packed (export.web.packing)
    sounds/                 examples
    licences.txt            of the page, of ONNX Runtime Web, of the models and of the recordings
    parity.json             the proof that the page's embeddings are the trained model's (export.web.site_parity)

Names have a hash of the content, so that no cache mixes two exports.
"""

import base64
import hashlib
import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from export.text_model_writer import write_text_model
from export.web.packing import SUFFIX, pack
from export.web.page_build import STAMP
from export.web.site_licences import write_licences
from serving.audio import SILENT_DBFS
from serving.audio.file_names import sound_files
from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import (
    DESCRIPTIONS,
    FRONT_END_MODEL,
    GLOVE_WORDS,
    MINILM_MODEL,
    MINILM_TOKENIZER,
    TEXT_CONFIG,
    ZEROSHOT,
)
from serving.errors import UsageError
from serving.files.npz import read_npz
from serving.teaching.taught_record import new_classes
from serving.text_model.glove import FORMS as GLOVE_FORMS
from serving.text_model.text_source import ENCODERS, read_config, read_descriptions, read_json
from serving.zeroshot import ZeroShot
from serving.zeroshot.example_labels import read_example_labels
from serving.zeroshot.label_lists import LABEL_LISTS
from serving.zeroshot.zeroshot_file import parse_zeroshot

SITE = "site.json"  # the marker of a site's folder
SERVICE_WORKER = "service-worker.js"
RUNTIMES = {"wasm": "ort-wasm-simd-threaded", "webgpu": "ort-wasm-simd-threaded.asyncify"}
MAX_EXAMPLES = 12
TEXT = "text/"
# Loaded when a visitor first types a label, chooses WebGPU or turns the microphone on; few do.
LATER_ASSETS = ("ort.webgpu", "microphone_worklet")


@dataclass
class SiteWriter:
    """Files of a site that is being written into a folder.

    files  name in site.json -> {"url", "bytes" (as sent), "sha256" (base64)}
    """

    folder: Path
    files: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, path: str, content: bytes) -> None:
        """Write a file under its path with a hash in it, packed if that makes it smaller."""
        packed = pack(content)
        self.add_as_is(name, path if packed is None else path + SUFFIX, packed or content)

    def add_as_is(self, name: str, path: str, content: bytes) -> None:
        """Write a file as it is sent."""
        digest = hashlib.sha256(content)
        target = Path(path)
        url = str(target.with_name(f"{digest.hexdigest()[:10]}-{target.name}"))
        (self.folder / url).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / url).write_bytes(content)
        record = {"url": url, "bytes": len(content), "sha256": base64.b64encode(digest.digest()).decode()}
        self.files[name] = record


def write_site_files(
    folder: Path, page: Path, bundle: Bundle, precision: str, text_model: bool, examples: Path | None
) -> None:
    """Write everything but parity.json.

    page        folder of the built page (export.web.page_build)
    text_model  also the text model: the bundle's, or one made from the installed packages that it names
    examples    folder of recordings; None: no examples
    errors      UsageError, BundleError: the bundle has no such model or text model
    """
    shutil.copytree(page, folder, ignore=shutil.ignore_patterns("runtime", STAMP, SERVICE_WORKER), dirs_exist_ok=True)
    writer = SiteWriter(folder)
    for name, stem in RUNTIMES.items():
        for file, path in ((name, f"runtime/{stem}.wasm{SUFFIX}"), (f"{name}_code", f"runtime/{stem}.mjs")):
            writer.add_as_is(file, path, (page / path).read_bytes())
    model = bundle.model(precision)
    writer.add("model", f"model/{model.name}", bundle.read_graph(model.name))
    writer.add("front_end", f"model/{FRONT_END_MODEL}", bundle.read_graph(FRONT_END_MODEL))
    zeroshot = parse_zeroshot(bundle.read(ZEROSHOT), ZEROSHOT, bundle.manifest.embedding_size)
    writer.add("zeroshot", "model/zeroshot.safetensors", save(zeroshot_arrays(zeroshot)))
    text = _add_text_model(writer, bundle) if text_model else None
    site = _facts(bundle, precision, zeroshot) | {
        "text": text,
        "examples": _add_examples(folder, examples),
        "files": writer.files,
    }
    (folder / SITE).write_text(json.dumps(site, indent=1) + "\n")
    write_licences(folder, page, bundle, None if text is None else text["encoder"])
    write_service_worker(folder, page)


def _facts(bundle: Bundle, precision: str, zeroshot: ZeroShot) -> dict[str, Any]:
    """What the page needs to know of the bundle."""
    manifest = bundle.manifest
    colours = np.round(255 * mpl.colormaps["magma"](np.arange(256))[:, :3]).astype(np.uint8)  # the demo's
    has_texts = DESCRIPTIONS in manifest.files
    return {
        "bundle": bundle.folder.resolve().name,
        "network": manifest.network,
        "dataset": manifest.dataset,
        "license": manifest.license,
        "precision": precision,
        "input": manifest.input,
        "embedding_size": manifest.embedding_size,
        "embedding_space": manifest.embedding_space,
        "window": asdict(manifest.window),
        "front_end": manifest.front_end,
        "seen_classes": manifest.seen_classes,
        "taught_classes": new_classes(zeroshot, manifest),
        "scores": manifest.scores,
        "silent_dbfs": SILENT_DBFS,
        "zeroshot": zeroshot_facts(zeroshot),
        "descriptions": read_descriptions(bundle.read) if has_texts else {},
        "label_lists": {name: list(labels) for name, labels in LABEL_LISTS.items()},
        "palette": base64.b64encode(colours.tobytes()).decode(),
    }


def zeroshot_facts(zeroshot: ZeroShot) -> dict[str, Any]:
    """What a map has besides arrays, as in site.json (ZeroShotFacts in web/src/zeroshot.ts)."""
    return {
        "class_names": zeroshot.class_names,
        "seen": zeroshot.seen.tolist(),
        "temperature": zeroshot.temperature,
        "offset": zeroshot.offset,
        "balanced": zeroshot.balanced,
        "threshold": zeroshot.threshold,
        "prior_weight": zeroshot.prior_weight,
    }


def zeroshot_arrays(zeroshot: ZeroShot) -> dict[str, NDArray[np.float32]]:
    """The arrays of a map that the page computes with, each float32."""
    arrays = {name: getattr(zeroshot, name) for name in ("mean", "projection", "class_vectors")}
    names = ("text_mean", "text_projection", "noise", "noise_thresholds", "example_sums", "given_targets")
    optional = {name: getattr(zeroshot, name) for name in names}
    arrays |= {name: array for name, array in optional.items() if array is not None}
    return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def _add_text_model(writer: SiteWriter, bundle: Bundle) -> dict[str, Any]:
    """Add the text model, and return the page's facts about it."""
    if TEXT_CONFIG not in bundle.manifest.files:
        raise UsageError(
            f"--text-model: {bundle.folder} names no text encoder; export it again without --no-text-model"
        )
    encoder, max_tokens, names = read_config(bundle.read)
    with tempfile.TemporaryDirectory(prefix="unheard-text-") as place:
        read = bundle.read
        if not {MINILM_MODEL, GLOVE_WORDS} & bundle.manifest.files.keys():
            config = read_json(bundle.read, TEXT_CONFIG)
            write_text_model(Path(place), encoder, config.get("class_texts", "description"))
            read = lambda name: (Path(place) / name).read_bytes()  # noqa: E731
        if "minilm" in ENCODERS[encoder]:
            writer.add("minilm", f"{TEXT}minilm.onnx", read(MINILM_MODEL))
            writer.add("tokenizer", f"{TEXT}tokenizer.json", read(MINILM_TOKENIZER))
        if "glove" in ENCODERS[encoder]:
            stored = read_npz(read(GLOVE_WORDS), GLOVE_WORDS, GLOVE_FORMS)
            arrays = {
                "vectors": stored["vectors"].astype(np.int8),
                "scales": stored["scales"].astype(np.float32),
                "sorted_words": stored["sorted_words"].astype(np.uint8),
                "lengths": stored["lengths"].astype(np.uint8),
            }
            writer.add("glove", f"{TEXT}glove.safetensors", save(arrays))
    return {"encoder": encoder, "max_tokens": max_tokens, "names": names}


def _add_examples(folder: Path, examples: Path | None) -> list[dict[str, Any]]:
    """Copy the recordings of a folder, with the labels that its labels.json has for them."""
    if examples is None:
        return []
    if not examples.is_dir():
        raise UsageError(f"--examples: {examples}: no such folder; give a folder with recordings")
    fitting = read_example_labels(examples)
    found = sound_files(examples, deep=False)
    if not found:
        raise UsageError(f"--examples: {examples}: has no recordings; give a folder with recordings")
    (folder / "sounds").mkdir()
    listed = []
    for path in found[:MAX_EXAMPLES]:
        # Without the file's own name, in which # and % would mean something else in a URL.
        name = f"{hashlib.sha256(path.read_bytes()).hexdigest()[:10]}{path.suffix}"
        shutil.copyfile(path, folder / "sounds" / name)
        labels = fitting.get(path.stem, ())
        listed.append({"url": f"sounds/{name}", "name": path.stem.replace("_", " "), "labels": list(labels)})
    return listed


def write_service_worker(folder: Path, page: Path) -> None:
    """Write the service worker with the list of files and a hash of their contents: the name of its cache."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    names = [name for name in names if name != SERVICE_WORKER]
    code = (page / SERVICE_WORKER).read_text()
    contents = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names} | {"code": code}
    digest = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:16]
    # WebGPU's runtime and the text model are kept once a browser has asked for them; most never do.
    on_demand = [name for name in names if RUNTIMES["webgpu"] in name or name.startswith(TEXT)]
    files = [name if name != "index.html" else "./" for name in names if name not in on_demand]
    record = {"hash": digest, "files": files, "on_demand": on_demand}
    (folder / SERVICE_WORKER).write_text(f"self.SITE = {json.dumps(record)};\n{code}")


def first_bytes(folder: Path) -> int:
    """The bytes that a visitor's browser loads before it names the first sound."""
    site = json.loads((folder / SITE).read_text())
    needed = ["wasm", "wasm_code", "model", "zeroshot", *(["front_end"] if site["input"] == "log_mel" else [])]
    assets = [path for path in (folder / "assets").iterdir() if not path.name.startswith(LATER_ASSETS)]
    pages = sum(path.stat().st_size for path in [folder / "index.html", folder / SITE, *assets])
    return pages + sum(site["files"][name]["bytes"] for name in needed)
