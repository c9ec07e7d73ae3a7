"""A bundle is opened only whole and unchanged, and is written whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from serving.bundle.bundle import open_bundle
from serving.embedder import Embedder
from serving.errors import BundleError, UsageError
from serving.files.new_folder import new_folder


@pytest.fixture
def copy(bundle_folder, tmp_path) -> Path:
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


def refused(folder: Path, *parts: str) -> None:
    with pytest.raises(BundleError) as caught:
        Embedder.load(folder)
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_a_copied_bundle_opens(copy):
    assert open_bundle(copy).manifest.network == "yamnet-compact"


@pytest.mark.parametrize("name", ["embedder.onnx", "frontend.onnx", "zeroshot.npz", "parity.json", "README.md"])
def test_one_changed_byte_is_refused_and_the_file_is_named(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    refused(copy, name, "has changed")


def test_a_missing_file_is_named(copy):
    (copy / "embedder.onnx").unlink()
    refused(copy, "embedder.onnx", "missing")


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    refused(tmp_path, "manifest.json", "export.onnx")


def test_a_missing_folder_says_how_to_make_one(tmp_path):
    refused(tmp_path / "nowhere", "nowhere", "export.onnx")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema_version": 1}'])
def test_a_broken_manifest_is_refused(copy, text):
    (copy / "manifest.json").write_text(text)
    refused(copy, "manifest.json")


def test_a_bundle_of_another_schema_says_which_version_it_has(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    refused(copy, "99")


def test_a_file_name_that_leads_out_of_the_bundle_is_refused(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["../outside"] = {"size": 0, "sha256": ""}
    manifest.pop("digest")
    manifest["digest"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    refused(copy, "../outside")


def test_an_unknown_backend_lists_the_known_ones(bundle_folder):
    with pytest.raises(UsageError, match="onnxruntime"):
        Embedder.load(bundle_folder, backend="caffe")


def test_a_failure_while_writing_leaves_the_old_folder_and_no_rubbish(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("old")

    def write_half() -> None:
        with new_folder(tmp_path / "out", overwrite=True, marker="kept") as folder:
            (folder / "new").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "kept").read_text() == "old"


def test_overwriting_replaces_the_whole_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    with new_folder(tmp_path / "out", overwrite=True, marker="old") as folder:
        (folder / "new").write_text("new")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("old")
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if target == tmp_path / "out" and "-old-" not in str(self):
            raise KeyboardInterrupt  # at the worst moment: the old one is aside, the new one not there yet
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out", True, "kept") as folder:
        (folder / "new").write_text("new")
    assert (tmp_path / "out" / "kept").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_new_folder_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """After a power failure, a name that exists stands for complete files: each file, each folder, then the parent."""
    events: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(handle: int) -> None:
        events.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        real_fsync(handle)

    def rename(self: Path, target: Path) -> Path:
        events.append("rename")
        return real_rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    with new_folder(tmp_path / "out", overwrite=False, marker="m") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("content")
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert set(before) == {"inner", "file", folder.name}
    assert after == [tmp_path.name]


def test_an_existing_folder_is_refused_without_overwrite(tmp_path):
    with (
        pytest.raises(UsageError, match="give another folder, or overwrite=True to replace it"),
        new_folder(tmp_path, overwrite=False, marker="m"),
    ):
        pytest.fail("the block was entered")


@pytest.mark.parametrize("old", ["a folder", "a file"])
def test_overwrite_never_replaces_what_it_did_not_write(tmp_path, old):
    out = tmp_path / "out"
    if old == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"has no manifest\.json"), new_folder(out, True, "manifest.json"):
        pytest.fail("the block was entered")
    assert (out if old == "a file" else out / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", ["a folder", "a file"])
def test_what_appeared_meanwhile_is_kept(tmp_path, overwrite, content):
    out = tmp_path / "out"
    kept = out / "notes.txt" if content == "a folder" else out

    def write_meanwhile() -> None:
        with new_folder(out, overwrite, "manifest.json") as folder:
            (folder / "manifest.json").write_text("late")
            kept.parent.mkdir(exist_ok=True)
            kept.write_text("mine")

    with pytest.raises(UsageError, match=r"out: .*; it appeared while this was written.*; give another folder"):
        write_meanwhile()
    assert kept.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_that_appears_at_the_last_moment_is_kept(tmp_path, monkeypatch):
    out, real = tmp_path / "out", Path.rename

    def rename(self: Path, target: Path) -> Path:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(UsageError, match="cannot be written"), new_folder(out, False, "m") as folder:
        (folder / "m").write_text("late")
    assert (out / "notes.txt").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]


def test_an_error_of_another_file_is_not_told_as_one_of_the_new_folder(tmp_path):
    with (
        pytest.raises(UsageError, match=r"^/nowhere/rain\.wav: cannot be used \(No such file or directory\)"),
        new_folder(tmp_path / "out", False, "m"),
    ):
        Path("/nowhere/rain.wav").read_bytes()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_file_that_cannot_be_written_is_told_as_the_new_folder(tmp_path, number):

    def fail() -> None:
        with new_folder(tmp_path / "out", False, "m") as folder:
            place = folder / "m" if number == errno.EACCES else None  # a write on a full disk names no file
            raise OSError(number, os.strerror(number), place)

    with pytest.raises(UsageError, match=rf"^{tmp_path / 'out'}: cannot be written \({os.strerror(number)}\)"):
        fail()


@pytest.mark.parametrize(
    ("key", "value"), [("rate_hz", 8000), ("hop_samples", 1), ("samples", 16_000), ("embedding_space", "0" * 64)]
)
def test_one_changed_number_in_the_manifest_is_refused(copy, key, value):
    manifest = json.loads((copy / "manifest.json").read_text())
    (manifest if key == "embedding_space" else manifest["window"])[key] = value
    (copy / "manifest.json").write_text(json.dumps(manifest))
    refused(copy, "manifest.json", "has changed")


def test_the_manifest_says_what_the_numbers_depend_on(bundle_folder, run_folder):
    manifest = open_bundle(bundle_folder).manifest
    assert manifest.window.samples == 77_040
    assert manifest.front_end["log_offset"] == 0.01
    assert manifest.seen_classes == ["clicks", "noise", "tone"]
    assert len(manifest.embedding_space) == 64
    assert manifest.scores.keys() >= {"validation_accuracy"}
