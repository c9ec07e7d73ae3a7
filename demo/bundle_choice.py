"""The bundles that the page offers, each opened when it is first asked for."""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from serving.bundle import MANIFEST, SCHEMA_VERSION
from serving.command import say
from serving.embedder import Embedder
from serving.errors import UsageError

SHIPPED = Path(__file__).parent / "model"  # the bundle that comes with the project
SHIPPED_NAME = "shipped"
NEAR = Path("bundles")  # where `make demo` and the README put the bundles that a user makes


class Models:
    """Bundles by name. Safe to use from several threads.

    names   in the order in which the page offers them; the first is what it begins with
    """

    def __init__(self, folders: Mapping[str, Path], backend: str = "auto"):
        self.names = list(folders)
        self._folders = dict(folders)
        self._backend = backend
        self._opened: dict[str, Embedder] = {}
        self._lock = threading.Lock()

    def open(self, name: str) -> Embedder:
        """The embedder of a bundle, warmed up.

        errors   UsageError: no bundle of that name; else as `Embedder.load`
        """
        if name not in self._folders:
            raise UsageError(f"bundle: got {name}; wanted one of {', '.join(self.names)}")
        with self._lock:
            if name not in self._opened:
                embedder = Embedder.load(self._folders[name], self._backend)
                window = embedder.manifest.window
                silence = np.zeros(window.samples, np.float32)
                embedder.embed(silence, window.rate_hz)  # the first inference is slow, and so is the first picture
                embedder.log_mel(silence, window.rate_hz)
                embedder.describe("")  # opens the text model
                self._opened[name] = embedder
            return self._opened[name]


def find_bundles(given: Sequence[Path], shipped: Path = SHIPPED, near: Path = NEAR) -> dict[str, Path]:
    """Which bundles to offer, by name: those given, the shipped one, and, where none is given, those in `near`.

    errors   UsageError: none is given and there is no shipped one
    """
    if not given and not (shipped / MANIFEST).is_file():
        raise UsageError(
            f"{shipped}: the bundle that comes with the demo is not there; name one: python -m demo BUNDLE"
        )
    made = [] if given else [path.parent for path in sorted(near.glob(f"*/{MANIFEST}")) if _is_readable(path)]
    folders = {}
    for folder in given:
        folders[str(folder) if folder.name in folders or not folder.name else folder.name] = folder
    if (shipped / MANIFEST).is_file():
        folders.setdefault(SHIPPED_NAME, shipped)
    for folder in made:
        folders.setdefault(folder.name, folder)
    return folders


def _is_readable(manifest: Path) -> bool:
    """Whether a bundle is of this program's version; what else may be wrong with it is told when it is chosen."""
    try:
        found = json.loads(manifest.read_bytes())["schema_version"]
    except (OSError, ValueError, KeyError, TypeError):
        found = "none"
    if found != SCHEMA_VERSION:
        say(f"{manifest.parent}: not offered (schema version {found}, wanted {SCHEMA_VERSION}); export the run again")
    return found == SCHEMA_VERSION
