"""The bundle: a folder with the exported model, the facts about its making, and the hash of every file.

    manifest.json   see serving.manifest
    frontend.onnx   waveform [batch, samples] -> log-mel [batch, frames, 64]
    embedder.onnx   waveform [batch, samples] (or log-mel [batch, frames, 64]) -> embedding [batch, 128]
    embedder.fp16.onnx, embedder.int8.onnx    the same model in other precisions, if they were exported
    zeroshot.npz    the map from embeddings to class vectors (serving.zeroshot)
    text/           the text encoder: its name, and the model itself unless it was left out (serving.text_model)
    probes.npz      PyTorch's embeddings of the parity probes, to check a backend without PyTorch
    engines/        TensorRT engines with their side-cars, if they were built (serving.backends.engine_sidecar)
    parity.json     the proof that the exported models equal the trained one
    README.md       the model card

A bundle is written completely or not at all (serving.new_folder), and opened only if all hashes match. Nothing in it is
pickled. The names are constants in serving.bundle_files.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from serving.bundle_files import BF16, MANIFEST
from serving.errors import BundleError
from serving.file_record import record_of
from serving.manifest import Manifest, OtherSchemaError, parse_manifest

EXPORT_COMMAND = "python -m export.onnx RUN --out BUNDLE"


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

    def model(self, precision: str) -> Path:
        """The path of the model in a precision. BundleError if the bundle has none."""
        if precision == BF16:
            precision = "fp32"
        if precision not in self.manifest.models:
            have = ", ".join(self.manifest.models)
            raise BundleError(f"{self.folder}: has no {precision} model (it has {have}); export it with --precision")
        return self.path(self.manifest.models[precision])


def open_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check every file against the manifest.

    errors   BundleError: a file is missing or unreadable, or its size or SHA-256 differs; the message names the file
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise BundleError(f"{folder}: no such bundle folder; make it with: {EXPORT_COMMAND}")
    manifest = _read_manifest(folder)
    for name in manifest.files:
        _check_file(folder, name, manifest)
    return Bundle(folder, manifest)


def _read_manifest(folder: Path) -> Manifest:
    path, way_out = folder / MANIFEST, f"make it with: {EXPORT_COMMAND}"
    try:
        return parse_manifest(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise BundleError(f"{folder}: has no {MANIFEST}, so it is not a bundle; {way_out}") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); {way_out}") from error
    except OtherSchemaError as error:
        raise BundleError(f"{path}: {error}; export the run again with: {EXPORT_COMMAND}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{path}: not a bundle's manifest ({error}); {way_out}") from error


def _check_file(folder: Path, name: str, manifest: Manifest) -> None:
    path, wanted = folder / name, manifest.files[name]
    if not path.is_file():
        raise BundleError(f"{path}: is missing; the bundle is incomplete, copy or export it again")
    try:
        found = record_of(path)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); correct its permissions") from error
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
