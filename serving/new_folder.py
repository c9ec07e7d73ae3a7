"""Folders that are written completely or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.atomic_write import sync_to_disk
from serving.errors import UsageError


@contextmanager
def new_folder(out: Path, overwrite: bool, marker: str, flag: str = "folder") -> Iterator[Path]:
    """Yield a temporary folder beside `out`. Rename it to `out` if the block succeeds, otherwise remove it.

    Its files are flushed to the disk before the rename, so `out` is complete even after a power failure.

    overwrite  replace an existing folder, but only one that contains `marker` or is empty
    marker     name of a file that every folder of this kind contains
    flag       what sets `out`, for messages: an option of a command, or "folder"
    errors     UsageError: `out` exists and must not be replaced, or it cannot be written
    """
    out = out.resolve()
    refuse_existing(out, overwrite, marker)
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _flush_tree(temporary)
        _replace(out, temporary)
        sync_to_disk(out.parent)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror or error}); give another {flag}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _flush_tree(folder: Path) -> None:
    """Flush every file and folder below a folder, and the folder itself."""
    for path in folder.rglob("*"):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            sync_to_disk(path)
    sync_to_disk(folder)


def _replace(out: Path, new: Path) -> None:
    """Rename `new` to `out`. An existing `out` is restored if that fails."""
    if not out.exists():
        new.rename(out)
        return
    # A rename cannot replace a folder that has files, so the old folder is moved away first.
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    old = aside / out.name
    try:
        out.rename(old)
        new.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        aside.rmdir()  # fails if the old folder could not be moved back, so nothing is lost
        raise
    shutil.rmtree(aside, ignore_errors=True)


def refuse_existing(out: Path, overwrite: bool, marker: str) -> None:
    """UsageError if `out` exists and must not be replaced: a file, or a folder with files but without the marker."""
    if not out.exists():
        return
    if not overwrite:
        raise UsageError(f"{out}: exists already; give another folder, or overwrite=True to replace it")
    if not out.is_dir() or (not (out / marker).is_file() and any(out.iterdir())):
        raise UsageError(f"{out}: has no {marker}, so overwrite=True will not replace it; give another folder")


def refuse_unwritable(folder: Path, flag: str) -> None:
    """UsageError if `folder`, or the existing folder that it would be created in, cannot be written."""
    place = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=place):
            pass
    except OSError as error:
        raise UsageError(f"{flag}: {folder} cannot be written ({error.strerror}); give another folder") from error


def make_folder_of(path: Path, flag: str) -> None:
    """Make the folder of a file that will be written. UsageError: it cannot be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{flag}: {path.parent} cannot be made ({error.strerror}); give another folder") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
