"""Put files into a finished bundle that other commands may change at the same time."""

from collections.abc import Mapping
from pathlib import Path

from serving.bundle.bundle import Bundle, open_bundle
from serving.bundle.manifest import write_manifest
from serving.errors import UsageError
from serving.files.atomic_write import move_atomically
from serving.files.held_folder import held_in_turn


def put_files(bundle: Bundle, files: Mapping[str, Path], overwrite: bool) -> None:
    """Move finished files into a bundle's folder, and list them in its manifest as it is now.

    files      name in the bundle -> file on the same file system, in the order in which they are moved
    overwrite  replace files that the manifest lists
    errors     UsageError: a file is listed already, or the folder holds another bundle now; OSError
    The manifest never lists a file that is being replaced, so the bundle can be opened at any moment.
    """
    with held_in_turn(bundle.folder):
        now = open_bundle(bundle.folder).manifest
        if now.embedding_space != bundle.manifest.embedding_space:
            raise UsageError(f"{bundle.folder}: holds another bundle by now; give the same command again")
        if listed := sorted(now.files.keys() & files.keys()):
            if not overwrite:
                raise UsageError(f"{bundle.folder / listed[0]}: exists already; give overwrite=True to replace it")
            write_manifest(bundle.folder, now, now.files.keys() - files.keys())
        for name, file in files.items():
            move_atomically(file, bundle.folder / name)
        write_manifest(bundle.folder, now, now.files.keys() | files.keys())
