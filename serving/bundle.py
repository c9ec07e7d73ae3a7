"""The one artifact: a folder with the exported model, what it was made from, and the hashes of every file.

    manifest.json   this module's Manifest
    frontend.onnx   waveform [batch, samples] -> log-mel [batch, frames, 64]: the front end alone, for pictures
    embedder.onnx   waveform [batch, samples] (or log-mel [batch, frames, 64]) -> embedding [batch, 128]
    embedder.fp16.onnx, embedder.int8.onnx    the same in other precisions, where they were asked for
    zeroshot.npz    the map from embeddings to class vectors (serving.zeroshot)
    text/           what the class vectors were made by, and, unless it was left out, that text model (serving.text)
    probes.npz      PyTorch's embeddings of the parity probes, to compare with where there is no PyTorch
    parity.json     the proof that the exported models are the trained one
    README.md       the model card

Written to a temporary folder and renamed whole; opened only after its hashes hold; nothing in it is pickled.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from serving.audio import Window
from serving.errors import BundleError, UsageError

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
PRECISIONS = {"fp32": "embedder.onnx", "fp16": "embedder.fp16.onnx", "int8": "embedder.int8.onnx"}  # and their files
FRONT_END_MODEL = "frontend.onnx"
ZEROSHOT = "zeroshot.npz"
PROBES = "probes.npz"
PARITY = "parity.json"
MODEL_CARD = "README.md"
ATTRIBUTION = "ATTRIBUTION.txt"  # the authors of the recordings
BF16 = "bf16"  # has no file: the FP32 one, its network computed in bfloat16 by OpenVINO
AGAIN = "python -m export.onnx RUN --out BUNDLE"


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of one file of a bundle."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a bundle says of itself. Stored whole; nothing falls back on a default when it is read.

    front_end        every number of the front end (serving.log_mel.LogMelConfig)
    input            of the models: "waveform" [batch, samples], or "log_mel" [batch, frames, 64] as frontend.onnx
                     gives it
    models           precision ("fp32", "fp16", "int8") -> file
    fp32_layers      layers of the INT8 model that stayed in FP32, because INT8 hurt them most
    embedding_space  one hash of all that changes the numbers; two embeddings compare only if theirs are equal
    run              the folder that was exported, as it was called then
    init             the published weights that training started from, None for random ones
    seen_classes     the classes that the network was trained on
    scores           accuracies of the trained model, 0 to 1, as its run's summary.json has them
    license          of the recordings that the weights were learned from
    """

    network: str
    objective: str
    front_end: dict[str, Any]
    window: Window
    input: str
    models: dict[str, str]
    fp32_layers: list[str]
    embedding_size: int
    dataset: str
    split: str
    run: str
    init: str | None
    seen_classes: list[str]
    scores: dict[str, float]
    license: str
    git_commit: str
    embedding_space: str
    schema_version: int = SCHEMA_VERSION
    files: dict[str, FileRecord] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    folder: Path
    manifest: Manifest

    def at_absolute_path(self) -> "Bundle":
        """The same bundle, to be opened again from another working directory."""
        return replace(self, folder=self.folder.absolute())

    def path(self, name: str) -> Path:
        """The path of one of the bundle's files; BundleError where the bundle has none of that name."""
        if name not in self.manifest.files:
            have = ", ".join(self.manifest.files)
            raise BundleError(f"{self.folder}: has no {name} (it has {have}); export it again with that file")
        return self.folder / name

    def model(self, precision: str) -> Path:
        """The path of the model of a precision; BundleError where the bundle has none."""
        if precision == BF16:
            precision = "fp32"
        if precision not in self.manifest.models:
            have = ", ".join(self.manifest.models)
            raise BundleError(f"{self.folder}: has no {precision} model (it has {have}); export it with --precision")
        return self.path(self.manifest.models[precision])


def open_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check every file against the manifest.

    errors   BundleError naming the file: missing, of another size, or with another SHA-256
    """
    folder = Path(folder)
    again = f"make it with: {AGAIN}"
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle folder; {again}")
    try:
        manifest = _parse_manifest(json.loads((folder / MANIFEST).read_bytes()))
    except FileNotFoundError as error:
        raise BundleError(f"{folder}: has no {MANIFEST}, so it is not a bundle; {again}") from error
    except OSError as error:
        raise BundleError(f"{folder / MANIFEST}: cannot be read ({error.strerror}); {again}") from error
    except _OtherSchemaError as error:
        raise BundleError(f"{folder / MANIFEST}: {error}; export the run again with: {AGAIN}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{folder / MANIFEST}: not a bundle's manifest ({error}); {again}") from error
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{path}: is missing; the bundle is incomplete, copy or export it again")
        try:
            found = record_of(path)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror}); mend its permissions") from error
        if found != record:
            raise BundleError(
                f"{path}: has changed since the export (got sha256 {found.sha256[:12]}, {found.size} bytes; "
                f"wanted {record.sha256[:12]}, {record.size} bytes); copy or export the bundle again"
            )
    return Bundle(folder, manifest)


def reopen_bundle(bundle: Bundle) -> Bundle:
    """Open a bundle's folder again, perhaps in another process.

    errors   BundleError: as `open_bundle`, or another bundle lies there by now
    """
    again = open_bundle(bundle.folder)
    if again.manifest != bundle.manifest:
        now, then = again.manifest.files, bundle.manifest.files
        others = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
        raise BundleError(
            f"{bundle.folder}: holds another bundle than when it was opened first (other: "
            f"{', '.join(others) or MANIFEST}); load it anew, or put the first one back"
        )
    return again


class _OtherSchemaError(Exception):
    """The manifest is of another version of this program."""


def _parse_manifest(raw: Any) -> Manifest:
    if not isinstance(raw, dict):
        raise TypeError(f"it holds a {type(raw).__name__}, not an object")
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        raise _OtherSchemaError(f"has schema version {version}, this program reads {SCHEMA_VERSION}")
    if raw.pop("digest", None) != _digest(raw):
        raise ValueError("it has changed since the export: its digest is not that of its content")
    raw["window"] = Window(**raw["window"])
    raw["files"] = {name: FileRecord(**record) for name, record in raw["files"].items()}
    for name in raw["files"]:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"file name {name!r} leads out of the bundle")
    return Manifest(**raw)


def record_of(path: Path) -> FileRecord:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileRecord(path.stat().st_size, digest)


def write_manifest(folder: Path, manifest: Manifest, names: Iterable[str] | None = None) -> None:
    """Hash files of the folder into the manifest and write it there. names: None for every file that is there."""
    if names is None:
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    files = {name: record_of(folder / name) for name in sorted(names) if name != MANIFEST}
    content = asdict(manifest) | {"files": {name: asdict(record) for name, record in files.items()}}
    content["digest"] = _digest(content)
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n")


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of the manifest's other fields."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def new_folder(out: Path, overwrite: bool, marker: str, flag: str = "--out") -> Iterator[Path]:
    """Give a temporary folder beside `out`; rename it to `out` when the block ends well, else remove it.

    marker   a file that every folder of this kind has: only such a folder, or an empty one, is ever replaced
    flag     which the user would change, for messages
    errors   UsageError: `out` exists and may not be replaced, or the disk refuses it
    """
    out = out.resolve()
    refuse_existing(out, overwrite, marker)
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _replace(out, temporary)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror or error}); give another {flag}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace(out: Path, new: Path) -> None:
    if not out.exists():
        new.rename(out)
        return
    # A rename cannot replace a full folder: the old one steps aside first, and comes back if the new one cannot.
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    old = aside / out.name
    try:
        out.rename(old)
        new.rename(out)
    except BaseException:
        if old.exists():
            old.rename(out)
        aside.rmdir()  # only when empty: what could not go back stays there
        raise
    shutil.rmtree(aside, ignore_errors=True)


def refuse_existing(out: Path, overwrite: bool, marker: str) -> None:
    """UsageError where `out` exists and may not be replaced: a file, or a folder that is not of the marker's kind."""
    if not out.exists():
        return
    if not overwrite:
        raise UsageError(f"{out}: exists already; give another --out, or --overwrite to replace it")
    if not out.is_dir() or (not (out / marker).is_file() and any(out.iterdir())):
        raise UsageError(f"{out}: has no {marker}, so --overwrite will not replace it; give another --out")


def refuse_unwritable(folder: Path, flag: str) -> None:
    """UsageError where nothing can be written into `folder`, or into the one that it would be made in."""
    place = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=place):
            pass
    except OSError as error:
        raise UsageError(f"{flag}: {folder} cannot be written ({error.strerror}); give another folder") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
