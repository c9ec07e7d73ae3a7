"""The bundles that the page offers. Each is opened at its first use."""

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from serving.bundle.bundle_files import MANIFEST
from serving.bundle.manifest import SCHEMA_VERSION
from serving.command_line import say
from serving.embedder import Embedder
from serving.errors import UsageError

SHIPPED = Path(__file__).parent / "model"  # the project's own bundle
FROM_SCRATCH = Path(__file__).parent / "model-from-scratch"  # trained on ESC-10 from random weights
SHIPPED_NAME = "shipped"
FROM_SCRATCH_NAME = "from scratch"
LOCAL = Path("bundles")  # the folder to which `make demo` exports


class BundleChoice:
    """Bundles by name. Thread-safe.

    names    in the order of the page; the first is the initial choice
    trusted  as for `Embedder.load`; the project's own bundles need no signature
    """

    def __init__(self, folders: Mapping[str, Path], backend: str = "auto", trusted: Sequence[Path] = ()):
        self.names = list(folders)
        self._folders = dict(folders)
        self._backend = backend
        self._trusted = trusted
        self._opened: dict[str, Embedder] = {}
        self._lock = threading.Lock()

    def open(self, name: str) -> Embedder:
        """Open a bundle and warm up its embedder.

        errors   UsageError: there is no bundle of this name; errors of `Embedder.load`
        """
        if name not in self._folders:
            raise UsageError(f"bundle: got {name}; wanted one of {', '.join(self.names)}")
        if known := self._opened.get(name):  # while another one is being opened, which takes seconds
            return known
        with self._lock:
            if name not in self._opened:
                folder = self._folders[name]
                trusted = () if folder in (SHIPPED, FROM_SCRATCH) else self._trusted  # parts of the program
                embedder = Embedder.load(folder, self._backend, trusted=trusted)
                window = embedder.manifest.window
                silence = np.zeros(window.samples, np.float32)
                embedder.embed(silence, window.rate_hz)  # the first inference and the first log-mel are slow
                embedder.log_mel(silence, window.rate_hz)
                embedder.labels.describe("")  # opens the text model
                self._opened[name] = embedder
            return self._opened[name]


def find_bundles(
    given: Sequence[Path], shipped: Path = SHIPPED, near: Path = LOCAL, from_scratch: Path = FROM_SCRATCH
) -> dict[str, Path]:
    """Find the bundles to offer: name -> folder. A folder is offered once, under the first of its names.

    given         the user's bundles; if there are none, the bundles in `near` are offered too
    shipped       the project's own bundle, which is always offered
    from_scratch  the project's bundle without published weights, which is offered after it
    errors        UsageError: no bundle is given and `shipped` does not exist
    """
    if not given and not (shipped / MANIFEST).is_file():
        raise UsageError(
            f"{shipped}: the bundle that comes with the demo is not there; give a bundle: python -m demo BUNDLE"
        )
    made = [] if given else [path.parent for path in sorted(near.glob(f"*/{MANIFEST}")) if _is_readable(path)]
    folders: dict[str, Path] = {}
    for folder in given:
        folders[str(folder) if folder.name in folders or not folder.name else folder.name] = folder
    own = {SHIPPED_NAME: shipped, FROM_SCRATCH_NAME: from_scratch}
    others = [(name, folder) for name, folder in own.items() if (folder / MANIFEST).is_file()]
    others += [(folder.name, folder) for folder in made]
    offered = {folder.resolve() for folder in folders.values()}
    for name, folder in others:
        if folder.resolve() not in offered:
            folders.setdefault(name, folder)
            offered.add(folder.resolve())
    return folders


def _is_readable(manifest: Path) -> bool:
    """Whether this program can read the bundle's schema version. Other errors are reported when it is opened."""
    try:
        found = json.loads(manifest.read_bytes())["schema_version"]
    except (OSError, ValueError, KeyError, TypeError):
        found = "none"
    if found != SCHEMA_VERSION:
        say(f"{manifest.parent}: not offered (schema version {found}, wanted {SCHEMA_VERSION}); export the run again")
    return found == SCHEMA_VERSION
