"""Files that are replaced completely or not at all, and are on the disk before the old one is gone."""

import errno
import os
import stat
from pathlib import Path

import pytest

from serving.files.atomic_write import write_atomically
from serving.files.new_folder import new_folder


def test_an_exception_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_synced_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")
    synced: list[tuple[str, str]] = []
    fsync = os.fsync

    def watch(descriptor: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), path.read_text()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    write_atomically(path, lambda temporary: temporary.write_text("new"))
    (temporary, before), (folder, after) = synced
    assert (Path(temporary).parent, before) == (tmp_path, "old")
    assert (folder, after) == (str(tmp_path), "new")


@pytest.fixture
def unsynced(monkeypatch):
    """Lets fsync of each folder (True) or of each file (False) fail with an errno."""

    def refuse(folders: bool, number: int) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) == folders:
                raise OSError(number, os.strerror(number))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    return refuse


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_is_no_failure(tmp_path, unsynced, number):
    unsynced(True, number)
    write_atomically(tmp_path / "a.json", lambda temporary: temporary.write_text("new"))
    assert (tmp_path / "a.json").read_text() == "new"
    with new_folder(tmp_path / "out", False, "a.json") as folder:
        (folder / "sub").mkdir()
        (folder / "a.json").write_text("new")
    assert (tmp_path / "out" / "a.json").read_text() == "new"


@pytest.mark.parametrize(("folders", "number"), [(True, errno.EIO), (False, errno.EINVAL)])
def test_every_other_failure_to_sync_is_raised(tmp_path, unsynced, folders, number):
    unsynced(folders, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_atomically(tmp_path / "a.json", lambda temporary: temporary.write_text("new"))


def test_two_writers_of_one_file_at_a_time_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.json"

    def write_outer(temporary: Path) -> None:
        temporary.write_text("outer")
        write_atomically(path, lambda other: other.write_text("inner"))
        assert path.read_text() == "inner"
        assert temporary.suffix == ".json"
        assert temporary.name.startswith(".tmp-")

    write_atomically(path, write_outer)
    assert path.read_text() == "outer"
    assert list(tmp_path.iterdir()) == [path]
