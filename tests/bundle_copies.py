"""Copies of a bundle with fewer models, or without its text model."""

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from serving.bundle import open_bundle
from serving.manifest import write_manifest


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
