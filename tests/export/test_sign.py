"""A server that trusts a key opens what that key has signed, and nothing else."""

import errno
import importlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from export.sign import main
from serving.bundle.bundle import open_bundle
from serving.errors import BundleError, UsageError


@pytest.fixture
def signed(tmp_path, capsys) -> Path:
    """A folder with a signed copy of the demo's bundle and the keys team.key and other.key."""
    shutil.copytree("demo/model-from-scratch", tmp_path / "bundle")
    for name in ("team", "other"):
        assert main(["--new-key", str(tmp_path / f"{name}.key")]) == 0
    assert main([str(tmp_path / "bundle"), "--key", str(tmp_path / "team.key")]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["signature"] == str(tmp_path / "bundle" / "signature.json")
    return tmp_path


def refused(signed: Path, words: str) -> None:
    with pytest.raises(BundleError) as error:
        open_bundle(signed / "bundle", [signed / "team.key.pub"])
    assert words in str(error.value)
    assert str(error.value).isprintable()


def test_a_signed_bundle_is_opened_by_who_trusts_its_key_or_asks_for_none(signed):
    for trusted in ([], [signed / "team.key.pub"], [signed / "other.key.pub", signed / "team.key.pub"]):
        assert open_bundle(signed / "bundle", trusted).manifest.network == "yamnet-compact"


def test_a_private_key_can_be_read_by_its_owner_alone_and_is_never_overwritten(signed, capsys):
    assert stat.S_IMODE((signed / "team.key").stat().st_mode) == 0o600
    before = (signed / "team.key").read_bytes()
    assert main(["--new-key", str(signed / "team.key")]) == 2
    assert "team.key: exists already" in capsys.readouterr().err
    assert (signed / "team.key").read_bytes() == before


def test_a_public_key_in_the_way_leaves_no_private_key_behind(tmp_path, capsys):
    (tmp_path / "team.key.pub").write_text("a key")
    for _ in range(2):
        assert main(["--new-key", str(tmp_path / "team.key")]) == 2
        assert "team.key.pub: exists already" in capsys.readouterr().err
    (tmp_path / "team.key.pub").unlink()
    assert main(["--new-key", str(tmp_path / "team.key")]) == 0


def test_a_key_that_does_not_fit_on_the_disk_is_told_by_its_name_and_leaves_nothing(signed, tmp_path):
    folder = tmp_path / "full"
    folder.mkdir()
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20)); "
        "from export.sign import main; sys.exit(main(sys.argv[1:]))"
    )
    for arguments, told in (
        (
            ["--new-key", str(folder / "team.key")],
            f"--new-key: {folder / 'team.key'}: cannot be written (File too large)",
        ),
        ([str(signed / "bundle"), "--key", str(signed / "team.key")], "signature.json: cannot be written"),
    ):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (line,) = done.stderr.splitlines()
        assert done.returncode == 2
        assert told in line
    assert list(folder.iterdir()) == []
    open_bundle(signed / "bundle", [signed / "team.key.pub"])


def test_without_a_public_key_there_is_no_private_one(tmp_path, capsys, monkeypatch):
    real = os.open

    def full(path, *arguments):
        if str(path).endswith(".pub"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", full)
    assert main(["--new-key", str(tmp_path / "team.key")]) == 2
    assert f"{tmp_path / 'team.key.pub'}: cannot be written (No space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_of_another_key_is_refused(signed):
    assert main([str(signed / "bundle"), "--key", str(signed / "other.key")]) == 0
    refused(signed, "is not by a key that is trusted here")


def test_an_unsigned_bundle_is_refused(signed):
    (signed / "bundle" / "signature.json").unlink()
    refused(signed, "is not signed; sign it with")


def test_another_manifest_under_the_same_signature_is_refused(signed):
    """One that fits its own files and digest, so that nothing but the signature tells."""
    manifest = signed / "bundle" / "manifest.json"
    manifest.write_text(manifest.read_text() + "\n")
    open_bundle(signed / "bundle")
    refused(signed, "does not fit manifest.json")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"payloadType": 1}', "[" * 60_000, '{"signatures": [{"sig": 1}]}']
)
def test_what_is_no_signature_is_refused(signed, content):
    (signed / "bundle" / "signature.json").write_text(content)
    refused(signed, "signature.json: is no signature")


def test_a_file_without_a_public_key_is_named(signed):
    with pytest.raises(UsageError, match=r"team\.key: is no public key"):
        open_bundle(signed / "bundle", [signed / "team.key"])


@pytest.mark.parametrize(("name", "why"), [("nowhere.pub", "No such file or directory"), ("bundle", "Is a directory")])
def test_a_key_file_that_cannot_be_read_is_named_with_the_reason(signed, name, why):
    with pytest.raises(UsageError, match=rf"{name}: cannot be read \({why}\); give the \.pub file"):
        open_bundle(signed / "bundle", [signed / name])


@pytest.mark.parametrize("flags", [[], ["bundle"], ["--key", "k"], ["bundle", "--new-key", "k"]])
def test_flags_that_make_no_sense_together_are_refused(flags, capsys):
    assert main(flags) == 2
    assert "give a bundle and --key, or --new-key alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("serving", ["--port", "0"]),
        ("serving.embed", ["demo/example_sounds", "--out", "sounds.parquet"]),
        ("serving.doctor", []),
        ("demo", ["--port", "7999"]),
        ("export.parity", []),
        ("export.tensorrt", []),
        ("export.triton", ["--out", "models"]),
    ],
)
def test_every_command_that_opens_a_bundle_refuses_one_of_another_key(signed, module, arguments):
    trusting = [str(signed / "bundle"), *arguments, "--trust", str(signed / "other.key.pub")]
    trusting = [str(signed / each) if each in ("sounds.parquet", "models") else each for each in trusting]
    done = subprocess.run([sys.executable, "-m", module, *trusting], capture_output=True, text=True, timeout=120)
    assert done.returncode == (1 if module == "serving.doctor" else 2), done.stderr
    told = done.stdout if module == "serving.doctor" else done.stderr
    assert "is not by a key that is trusted here" in told
    assert "Traceback" not in done.stderr
    assert not (signed / "sounds.parquet").exists()
    assert not (signed / "models").exists()


@pytest.mark.parametrize("value", [[], [""], ["team.key.pub", ""]])
@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("serving.__main__", []),
        ("serving.embed", ["sounds", "--out", "out"]),
        ("serving.label", ["sounds", "--out", "out"]),
        ("serving.doctor.__main__", []),
        ("serving.index", ["--out", "out"]),
        ("serving.review", ["--bundle", "other"]),
        ("serving.search.__main__", ["--bundle", "other"]),
        ("serving.teach", ["--out", "out"]),
        ("demo.__main__", []),
        ("export.parity.__main__", []),
        ("export.tensorrt", []),
        ("export.triton", ["--out", "out"]),
        ("export.web.__main__", ["--out", "out"]),
    ],
)
def test_trust_without_a_key_does_not_mean_to_trust_everybody(module, arguments, value, capsys):
    """As after a shell variable that is empty: --trust $KEYS, or --trust "$KEYS"."""
    command = importlib.import_module(module).main
    with pytest.raises(SystemExit) as stop:
        command(["bundle", *arguments, "--trust", *value])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --trust: got no key; give at least one .pub file")
