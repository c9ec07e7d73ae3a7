"""The signature of a bundle: signature.json beside its manifest, by Ed25519.

The manifest has the SHA-256 of every file, so its signature covers the bundle. The form is that of DSSE envelopes
(https://github.com/secure-systems-lab/dsse), with the payload in manifest.json instead of in the envelope.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serving.bundle.bundle_files import MANIFEST, SIGNATURE
from serving.errors import BundleError, UsageError, one_line
from serving.extras import pip_install
from serving.files.file_record import open_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.unheard.manifest+json"
MAX_BYTES = 65_536  # of signature.json and of a key file
INSTALL = f"cryptography is not installed; get it with: {pip_install('sign')}"


def check_signature(folder: Path, manifest: bytes, trusted: Sequence[Path]) -> None:
    """Refuse a bundle that none of the trusted keys has signed.

    manifest  the bytes of manifest.json that are used
    trusted   files with public keys, see `read_public_key`
    errors    BundleError: not signed, or by others; UsageError: a file holds no public key
    """
    keys = {key_id(key): key for key in map(read_public_key, trusted)}
    from cryptography.exceptions import InvalidSignature  # now, since it is installed

    path = folder / SIGNATURE
    message = signed_bytes(manifest)
    for name, signature in _read_signatures(path):
        if name in keys:
            try:
                keys[name].verify(signature, message)
            except InvalidSignature as error:
                raise BundleError(f"{path}: does not fit {MANIFEST}: one of them was changed; get it again") from error
            return
    wanted = ", ".join(name[:12] for name in keys)
    raise BundleError(
        f"{path}: is not by a key that is trusted here ({wanted}); get the bundle from who has such a key"
    )


def signed_bytes(manifest: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding of the manifest."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(manifest), manifest)


def key_id(key: "Ed25519PublicKey") -> str:
    """SHA-256 (hex) of a public key."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def read_public_key(path: Path) -> "Ed25519PublicKey":
    """Read an Ed25519 public key in PEM. UsageError: the file cannot be read, or holds something else."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise UsageError(INSTALL) from error
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give the .pub file") from error
    try:
        key = load_pem_public_key(content)
    except ValueError as error:
        raise UsageError(f"{path}: is no public key ({one_line(error, 200)}); give the .pub file") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path}: is a {type(key).__name__}; wanted an Ed25519 public key")
    return key


def _read_signatures(path: Path) -> list[tuple[str, bytes]]:
    """The id of the key, and the signature, of each entry."""
    try:
        with open_regular(path) as file:
            envelope = json.loads(file.read(MAX_BYTES))
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError("another payload type")
        return [
            (str(entry["keyid"]), base64.b64decode(entry["sig"], validate=True)) for entry in envelope["signatures"]
        ]
    except FileNotFoundError as error:
        raise BundleError(
            f"{path.parent}: is not signed; sign it with: python -m export.sign BUNDLE --key KEY"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: is no signature ({one_line(error, 200)}); get the bundle again") from error
