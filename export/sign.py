"""Sign a bundle, so that servers with --trust open it and no other.

python -m export.sign --new-key team.key                   # writes team.key, which stays secret, and team.key.pub
python -m export.sign bundles/first --key team.key         # writes bundles/first/signature.json
python -m serving bundles/first --trust team.key.pub
"""

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from serving.bundle.bundle import open_bundle
from serving.bundle.bundle_files import MANIFEST, SIGNATURE
from serving.bundle.signature import INSTALL, PAYLOAD_TYPE, key_id, signed_bytes
from serving.command_line import run_command
from serving.errors import UsageError, one_line
from serving.files.atomic_write import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True)
class Options:
    """Sign a bundle with an Ed25519 key, or make such a key."""

    bundle: Annotated[Path | None, tyro.conf.Positional] = None
    """the bundle's folder"""
    key: Path | None = None
    """file with the private key, in PEM"""
    new_key: Path | None = None
    """write a new private key to this file, and its public key to the same name with .pub"""


def sign(options: Options) -> dict[str, Any]:
    """Do what the flags say, and return the JSON result."""
    if options.new_key is not None and options.bundle is None and options.key is None:
        return make_key(options.new_key)
    if options.bundle is None or options.key is None or options.new_key is not None:
        raise UsageError("give a bundle and --key, or --new-key alone")
    key = read_private_key(options.key)
    bundle = open_bundle(options.bundle)  # its files are those of its manifest
    name = key_id(key.public_key())
    manifest = (bundle.folder / MANIFEST).read_bytes()
    signature = base64.b64encode(key.sign(signed_bytes(manifest))).decode()
    envelope = {"payloadType": PAYLOAD_TYPE, "signatures": [{"keyid": name, "sig": signature}]}
    path = bundle.folder / SIGNATURE
    try:
        write_atomically(path, lambda temporary: temporary.write_text(json.dumps(envelope, indent=1) + "\n"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}); correct the folder's permissions") from error
    return {"signature": str(path), "key": name}


def make_key(path: Path) -> dict[str, Any]:
    """Write a new key pair. UsageError: one of the files exists, or cannot be written."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise UsageError(INSTALL) from error
    public_path = path.with_name(path.name + ".pub")
    for file in (path, public_path):  # both first: a private key without its public one would be in the way
        if os.path.lexists(file):
            raise UsageError(f"--new-key: {file}: exists already; give another name")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _write_new(path, secret, 0o600)
    try:
        _write_new(public_path, public, 0o644)
    except BaseException:
        path.unlink()  # this call wrote it; a private key without its public one would be in the way
        raise
    return {"private_key": str(path), "public_key": str(public_path), "key": key_id(key.public_key())}


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Write a new file whole or not at all. UsageError: it exists, or cannot be written."""
    made = False
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
            made = True
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
    except BaseException as error:
        if made:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(f"--new-key: {path}: cannot be written ({error.strerror}); give another name") from error
        raise


def read_private_key(path: Path) -> "Ed25519PrivateKey":
    """Read an Ed25519 private key in PEM. UsageError: the file holds something else."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise UsageError(INSTALL) from error
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        reason = one_line(error, 200)
        raise UsageError(f"--key: {path}: is no private key ({reason}); make one with --new-key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"--key: {path}: is a {type(key).__name__}; wanted an Ed25519 private key")
    return key


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit code."""
    return run_command(Options, sign, "python -m export.sign", argv)


if __name__ == "__main__":
    raise SystemExit(main())
