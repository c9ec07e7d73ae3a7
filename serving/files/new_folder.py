"""Folders that are written completely or not at all."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.errors import UsageError
from serving.files.atomic_write import sync_to_disk

# A disk without room, a quota, a limit on the size of a file, or a file system that became read-only.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def new_folder(out: Path, overwrite: bool, marker: str, flag: str = "folder") -> Iterator[Path]:
    """Yield a temporary folder beside `out`. Rename it to `out` if the block succeeds, otherwise remove it.

    Its files are flushed to the disk before the rename, so `out` is complete even after a power failure.

    overwrite  replace an existing folder, but only one that contains `marker` or is empty
    marker     name of a file that every folder of this kind contains
    flag       what sets `out`, for messages: an option of a command, or "folder"
    errors     UsageError: `out` exists and must not be replaced, also if it appeared meanwhile, or it cannot be
               written; another file, which is named, cannot be used
    """
    out = out.resolve()
    refuse_existing(out, overwrite, marker)
    temporary = None
    try:
        with _errors_of(out, flag):
            out.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        with _errors_of(out, flag, temporary):
            yield temporary
        with _errors_of(out, flag):
            temporary.chmod(0o777 & ~_umask())
            flush_tree(temporary)
            refuse_existing(out, overwrite, marker, "; it appeared while this was written")
            if overwrite:
                _replace(out, temporary)
            else:
                temporary.rename(out)  # fails if a folder with files appears at this very moment
            sync_to_disk(out.parent)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _errors_of(out: Path, flag: str, temporary: Path | None = None) -> Iterator[None]:
    """Tell an OSError in one line: that `out` cannot be written, or which other file cannot be used.

    temporary  the folder that the block fills, if it does anything else too
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        names = files_named(error)
        is_ours = (
            temporary is None or error.errno in (*NO_ROOM, None) or any(temporary in each.parents for each in names)
        )
        if is_ours:
            raise UsageError(f"{out}: cannot be written ({reason}); give another {flag}") from error
        if not names:
            raise
        raise UsageError(f"{names[0]}: cannot be used ({reason}), so {out} was not written; correct it") from error


def files_named(error: OSError) -> list[Path]:
    """The files that an error of the system names: none, one, or the two of a rename."""
    return [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if not isinstance(name, int | None)]


def flush_tree(folder: Path) -> None:
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


def refuse_existing(out: Path, overwrite: bool, marker: str, when: str = "") -> None:
    """UsageError if `out` exists and must not be replaced: a file, or a folder with files but without the marker.

    when   is added to what the message says of it
    """
    if not out.exists():
        return
    if not overwrite:
        raise UsageError(f"{out}: exists already{when}; give another folder, or overwrite=True to replace it")
    if not out.is_dir() or (not (out / marker).is_file() and any(out.iterdir())):
        raise UsageError(f"{out}: has no {marker}{when}, so overwrite=True will not replace it; give another folder")


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
