"""Bundles without a training: copies of the one that comes with the demo, which is a trained yamnet-compact."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from serving.bundle import open_bundle
from serving.embedder import Embedder
from serving.manifest import write_manifest

SHIPPED = Path(__file__).parents[2] / "demo" / "model"


@pytest.fixture(scope="session")
def precise_bundle(tmp_path_factory) -> Path:
    """A bundle in every precision, without a text model."""
    ignore = shutil.ignore_patterns("text")
    out = Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("precise") / "bundle", ignore=ignore))
    write_manifest(out, replace(open_bundle(SHIPPED).manifest, files={}))
    return out


@pytest.fixture(scope="session")
def bundle_folder(precise_bundle, tmp_path_factory) -> Path:
    """The same bundle in FP32 only."""
    ignore = shutil.ignore_patterns("*.int8.onnx", "*.fp16.onnx")
    out = Path(shutil.copytree(precise_bundle, tmp_path_factory.mktemp("fp32") / "bundle", ignore=ignore))
    manifest = open_bundle(precise_bundle).manifest
    write_manifest(out, replace(manifest, models={"fp32": manifest.models["fp32"]}, files={}))
    return out


@pytest.fixture(scope="session")
def embedder(bundle_folder) -> Embedder:
    """An Embedder of `bundle_folder`."""
    return Embedder.load(bundle_folder)
