"""The small sounds' index and the bundle that made it, for the tests of the search in Python and over HTTP."""

from pathlib import Path

import pytest

from serving.embedder import Embedder
from serving.search.search_index import SearchIndex
from tests.conftest import make_once
from tests.indexed_sounds import index_sounds, write_sounds
from tests.talking_bundle import write_talking_bundle


@pytest.fixture(scope="session")
def talking_bundle(bundle_folder, tmp_path_factory) -> Path:
    """The small bundle with a text model of six words."""

    def make(folder: Path) -> None:
        write_talking_bundle(bundle_folder, folder / "bundle")

    return make_once(tmp_path_factory, "talking", make) / "bundle"


@pytest.fixture(scope="session")
def talker(talking_bundle) -> Embedder:
    return Embedder.load(talking_bundle)


@pytest.fixture(scope="session")
def index_folder(talking_bundle, tmp_path_factory) -> Path:
    """The index of the small sounds, with sounds.parquet and the recordings beside it."""

    def make(folder: Path) -> None:
        write_sounds(folder / "sounds")
        index_sounds(talking_bundle, folder / "sounds", folder)

    return make_once(tmp_path_factory, "index", make) / "sounds.index"


@pytest.fixture(scope="module")
def index(index_folder) -> SearchIndex:
    return SearchIndex.open(index_folder)
