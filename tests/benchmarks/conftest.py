"""Bundles without a training: copies of the one that comes with the demo, which is a trained yamnet-compact."""

from pathlib import Path

import pytest

from demo.bundle_choice import FROM_SCRATCH
from serving.embedder import Embedder
from tests.bundle_copies import copy_bundle


@pytest.fixture(scope="session")
def precise_bundle(tmp_path_factory) -> Path:
    """A bundle in every precision, without a text model."""
    return copy_bundle(FROM_SCRATCH, tmp_path_factory.mktemp("precise") / "bundle", text=False)


@pytest.fixture(scope="session")
def bundle_folder(precise_bundle, tmp_path_factory) -> Path:
    """The same bundle in FP32 only."""
    return copy_bundle(precise_bundle, tmp_path_factory.mktemp("fp32") / "bundle", models=["fp32"])


@pytest.fixture(scope="session")
def embedder(bundle_folder) -> Embedder:
    """An Embedder of `bundle_folder`."""
    return Embedder.load(bundle_folder)
