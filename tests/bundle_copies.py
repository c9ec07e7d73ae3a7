"""Copies of a bundle with fewer models, without its text model, or with a small one."""

import json
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from serving.bundle.bundle import open_bundle
from serving.bundle.manifest import Manifest, parse_manifest, write_manifest


def copy_bundle(source: Path, folder: Path, models: Collection[str] | None = None, text: bool = True) -> Path:
    """Write a copy with correct hashes, and return its folder.

    models   the precisions that it keeps; None: all
    text     whether it keeps its text model
    """
    manifest = open_bundle(source).manifest
    kept = {name: file for name, file in manifest.models.items() if models is None or name in models}
    dropped = set(manifest.models.values()) - set(kept.values()) | (set() if text else {"text"})
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*dropped))
    write_manifest(
        folder, replace(manifest, models=kept, fp32_layers=manifest.fp32_layers if "int8" in kept else [], files={})
    )
    return folder


def open_bundle_unchecked(folder: Path) -> Manifest:
    """The manifest of a bundle whose files were changed."""
    return parse_manifest(json.loads((folder / "manifest.json").read_text()))


def write_small_glove(path: Path, words: list[str]) -> None:
    """GloVe with a few words, whose vectors are random."""
    np.savez(
        path,
        vectors=np.random.default_rng(0).integers(-127, 128, (len(words), 50)).astype(np.int8),
        scales=np.full(len(words), 0.01, np.float32),
        sorted_words=np.frombuffer("".join(words).encode(), np.uint8),
        lengths=np.array([len(word) for word in words], np.uint8),
    )
