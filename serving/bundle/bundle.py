"""The bundle: a folder with the exported model, the facts about its making, and the hash of every file.

    manifest.json   see serving.bundle.manifest
    signature.json  of the manifest, if somebody signed the bundle (serving.bundle.signature)
    frontend.onnx   waveform [batch, samples] -> log-mel [batch, frames, 64]
    embedder.onnx   waveform [batch, samples] (or log-mel [batch, frames, 64]) -> embedding [batch, 128]
    embedder.fp16.onnx, embedder.int8.onnx    the same model in other precisions, if they were exported
    zeroshot.npz    the map from embeddings to class vectors (serving.zeroshot)
    text/           the text encoder: its name, and the model itself unless it was left out (serving.text_model)
    probes.npz      PyTorch's embeddings of the parity probes, to check a backend without PyTorch
    engines/        TensorRT engines with their side-cars, if they were built (serving.backends.engine_sidecar)
    parity.json     the proof that the exported models equal the trained one
    README.md       the model card

A bundle is written completely or not at all (serving.files.new_folder), and opened only if all hashes match. Nothing in
it is pickled. The names are constants in serving.bundle.bundle_files.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from serving.bundle.bundle_files import BF16, MANIFEST
from serving.bundle.manifest import Manifest, OtherSchemaError, parse_manifest
from serving.bundle.onnx_check import check_onnx
from serving.bundle.onnx_cost import check_cost
from serving.bundle.signature import check_signature
from serving.errors import BundleError, one_line
from serving.files.file_record import FileRecord, open_regular, record_of, record_of_bytes

EXPORT_COMMAND = "python -m export.onnx RUN --out BUNDLE"
MAX_MANIFEST_BYTES = 4_000_000


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on disk."""

    folder: Path
    manifest: Manifest

    def at_absolute_path(self) -> "Bundle":
        """The same bundle, with a path that is valid in any working directory."""
        return replace(self, folder=self.folder.absolute())

    def path(self, name: str) -> Path:
        """The path of a file. BundleError if the manifest does not list that name."""
        if name not in self.manifest.files:
            have = ", ".join(self.manifest.files)
            raise BundleError(f"{self.folder}: has no {name} (it has {have}); export it again with that file")
        return self.folder / name

    def read(self, name: str) -> bytes:
        """The content of a file, the same as when the bundle was opened.

        What is opened from these bytes stays the same when the file is replaced or truncated later.
        errors   BundleError: the manifest does not list that name, or the file has changed since
        """
        path = self.path(name)
        try:
            with open_regular(path) as file:
                content = file.read(self.manifest.files[name].size + 1)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read ({error.strerror}); copy or export the bundle again") from error
        _check_record(path, record_of_bytes(content), self.manifest.files[name])
        return content

    def read_graph(self, name: str) -> bytes:
        """The content of an ONNX file, as `read`. BundleError: it has what the export does not write, or costs more."""
        content = self.read(name)
        check_onnx(content, str(self.folder / name))
        check_cost(content, str(self.folder / name))
        return content

    def model(self, precision: str) -> Path:
        """The path of the model in a precision. BundleError if the bundle has none."""
        if precision == BF16:
            precision = "fp32"
        if precision not in self.manifest.models:
            have = ", ".join(self.manifest.models)
            raise BundleError(
                f"{self.folder}: has no {precision} model (it has {have}); export it with: {EXPORT_COMMAND} "
                f"--precision fp32,{precision}"
            )
        return self.path(self.manifest.models[precision])


def open_bundle(folder: str | Path, trusted: Sequence[Path] = ()) -> Bundle:
    """Read a bundle and check every file against the manifest.

    trusted  files with public keys: only a bundle that one of them has signed is opened; none: any bundle is
    errors   BundleError: a file is missing or unreadable, or its size or SHA-256 differs; the message names the file;
             it is not signed by a trusted key
    """
    folder = Path(folder)
    try:
        is_folder = folder.is_dir()
    except OSError as error:  # the path is too long, or leads through a folder that is closed to this user
        raise BundleError(f"{folder}: cannot be opened ({error.strerror}); give another path") from error
    if not is_folder:
        raise BundleError(f"{folder}: no such bundle folder; make it with: {EXPORT_COMMAND}")
    manifest = _read_manifest(folder, trusted)
    for name in manifest.files:
        _check_file(folder, name, manifest)
    return Bundle(folder, manifest)


def _read_manifest(folder: Path, trusted: Sequence[Path]) -> Manifest:
    path, way_out = folder / MANIFEST, f"make it with: {EXPORT_COMMAND}"
    try:
        with open_regular(path) as file:
            content = file.read(MAX_MANIFEST_BYTES + 1)
        if len(content) > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has more than {MAX_MANIFEST_BYTES} bytes")
        if trusted:
            check_signature(folder, content, trusted)
        return parse_manifest(json.loads(content, parse_constant=_refuse_constant))
    except FileNotFoundError as error:
        raise BundleError(f"{folder}: has no {MANIFEST}, so it is not a bundle; {way_out}") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {way_out}") from error
    except OtherSchemaError as error:
        raise BundleError(f"{path}: {error}; export the run again with: {EXPORT_COMMAND}") from error
    except (ValueError, TypeError, RecursionError) as error:
        reason = one_line(error, 400)
        raise BundleError(f"{path}: not a bundle's manifest ({reason}); {way_out}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has the number {name}")


def _check_file(folder: Path, name: str, manifest: Manifest) -> None:
    path = folder / name
    try:
        size = path.stat().st_size
        found = record_of(path) if size == manifest.files[name].size else None
    except FileNotFoundError as error:
        raise BundleError(f"{path}: is missing; the bundle is incomplete, copy or export it again") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
    _check_record(path, found or FileRecord(size, "another"), manifest.files[name])


def _check_record(path: Path, found: FileRecord, wanted: FileRecord) -> None:
    if found != wanted:
        raise BundleError(
            f"{path}: has changed since the export (got sha256 {found.sha256[:12]}, {found.size} bytes; "
            f"wanted {wanted.sha256[:12]}, {wanted.size} bytes); copy or export the bundle again"
        )


def reopen_bundle(bundle: Bundle) -> Bundle:
    """Open a bundle's folder again, for example in another process.

    errors   BundleError: as `open_bundle`, or the folder now contains another bundle
    """
    again = open_bundle(bundle.folder)
    if again.manifest != bundle.manifest:
        now, then = again.manifest.files, bundle.manifest.files
        others = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
        raise BundleError(
            f"{bundle.folder}: holds another bundle than when it was opened first (other: "
            f"{', '.join(others) or MANIFEST}); load it again, or put the first bundle back"
        )
    return again
