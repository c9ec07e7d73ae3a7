"""manifest.json: what a bundle was made from, and the size and hash of each of its files."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from serving.audio import Window
from serving.bundle.bundle_files import MANIFEST, SIGNATURE
from serving.files.atomic_write import write_atomically
from serving.files.file_record import FileRecord, record_of

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Manifest:
    """The content of manifest.json. All fields are stored; reading uses no defaults.

    front_end        all numbers of the front end (serving.log_mel.LogMelConfig)
    input            input of the models: "waveform" [batch, samples], or "log_mel" [batch, frames, 64] as computed by
                     frontend.onnx
    models           precision ("fp32", "fp16", "int8") -> file name
    fp32_layers      layers of the INT8 model that stay in FP32, because INT8 changes the embeddings most there
    embedding_space  one hash of everything that changes the embeddings; embeddings are comparable only if it is equal
    run              path of the exported run folder at the time of the export
    init             name of the published weights that the training started from; None: random weights
    seen_classes     classes that the network was trained on
    scores           accuracies and other shares, 0 to 1, measured on clips that the training did not use. By number of
                     labels, where that matters: "unseen_top1" -> {"2": 0.9, "5": 0.7}
    license          license of the training recordings
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
    scores: dict[str, float | dict[str, float]]
    license: str
    git_commit: str
    embedding_space: str
    schema_version: int = SCHEMA_VERSION
    files: dict[str, FileRecord] = field(default_factory=dict)


class OtherSchemaError(Exception):
    """The manifest has a schema version that this program does not read."""


def parse_manifest(raw: Any) -> Manifest:
    """Build a manifest from the parsed JSON.

    errors   OtherSchemaError; ValueError or TypeError: it is damaged or something else
    """
    if not isinstance(raw, dict):
        raise TypeError(f"it holds a {type(raw).__name__}, not an object")
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        raise OtherSchemaError(f"has schema version {version}, this program reads {SCHEMA_VERSION}")
    if raw.pop("digest", None) != _digest(raw):
        raise ValueError("it has changed since the export: its digest does not match its content")
    from serving.bundle.manifest_check import manifest_of  # it needs this module

    return manifest_of(raw)


def write_manifest(folder: Path, manifest: Manifest, names: Iterable[str] | None = None) -> None:
    """Add the records of the folder's files to a manifest, and write it into the folder.

    names   files to record; None: all files in the folder
    """
    if names is None:
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    files = {name: record_of(folder / name) for name in sorted(names) if name not in (MANIFEST, SIGNATURE)}
    content = asdict(manifest) | {"files": {name: asdict(record) for name, record in files.items()}}
    content["digest"] = _digest(content)
    text = json.dumps(content, indent=1) + "\n"
    write_atomically(folder / MANIFEST, lambda temporary: temporary.write_text(text))


def _digest(content: dict[str, Any]) -> str:
    """SHA-256 of the manifest's other fields."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
