"""The side-car of a TensorRT engine: what it was built from and for. TensorRT itself checks next to nothing.

engines/<flavour>-<version>-sm<compute capability>-<precision>.engine, and the same name with .json
"""

import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.atomic_write import write_atomically
from serving.backends.profiles import Profile
from serving.bundle import Bundle, FileRecord, record_of
from serving.errors import EngineError

SCHEMA_VERSION = 1
ENGINES = "engines"  # folder in a bundle


@dataclass(frozen=True)
class Tensor:
    """Name, dtype ("float32") and shape of an engine's input or output; -1 stands for the batch."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Sidecar:
    """What an engine was built from and for.

    flavour, version      "tensorrt" or "tensorrt-rtx", and its exact version
    compute_capability    of the GPU, like "8.9"
    platform              "linux-x86_64"; engines do not run on another system
    precision             fp32, fp16 or int8, as it stands in the ONNX file
    onnx, engine          size and SHA-256 of the file it was built from, and of the engine
    embedding_space       the bundle's
    workspace_mb          limit of the builder's scratch memory in megabytes, None: all of the GPU's
    """

    flavour: str
    version: str
    compute_capability: str
    platform: str
    precision: str
    profiles: tuple[Profile, ...]
    input: Tensor
    output: Tensor
    onnx: FileRecord
    engine: FileRecord
    embedding_space: str
    optimisation_level: int
    workspace_mb: int | None
    build_seconds: float
    schema_version: int = SCHEMA_VERSION


def engine_name(flavour: str, version: str, compute_capability: str, precision: str) -> str:
    """File name of an engine: tensorrt-rtx-1.7.1.116-sm89-fp16.engine."""
    return f"{flavour}-{version}-sm{compute_capability.replace('.', '')}-{precision}.engine"


def this_platform() -> str:
    """Operating system and processor, like "linux-x86_64"."""
    return f"{sys.platform}-{platform.machine().lower()}"


def sidecar_path(engine: Path) -> Path:
    """Where an engine's side-car lies."""
    return engine.with_suffix(".json")


def write_sidecar(engine: Path, sidecar: Sidecar) -> None:
    """Write it beside the engine, whole or not at all."""
    text = json.dumps(asdict(sidecar), indent=1) + "\n"
    write_atomically(sidecar_path(engine), lambda temporary: temporary.write_text(text))


def read_sidecar(engine: Path) -> Sidecar:
    """An engine's side-car; EngineError where it is missing, damaged or of another schema."""
    path = sidecar_path(engine)
    again = "without it nothing is known of the engine; build it again with: python -m export.tensorrt BUNDLE"
    try:
        return _parse(json.loads(path.read_bytes()))
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineError(f"{path}: not an engine's side-car ({error}); {again}") from error


def _parse(raw: dict[str, Any]) -> Sidecar:
    version = raw.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema version {version}, this program reads {SCHEMA_VERSION}")
    for name in ("input", "output"):
        raw[name] = Tensor(raw[name]["name"], raw[name]["dtype"], tuple(raw[name]["shape"]))
    for name in ("onnx", "engine"):
        raw[name] = FileRecord(**raw[name])
    raw["profiles"] = tuple(Profile(**profile) for profile in raw["profiles"])
    return Sidecar(**raw)


def check_sidecar(
    engine: Path, sidecar: Sidecar, bundle: Bundle, flavour_version: str, compute_capability: str
) -> None:
    """Refuse an engine that is not this bundle's, or was not built for what runs it.

    flavour_version     of the installed package of the side-car's flavour
    compute_capability  of the GPU that would run it
    errors              EngineError: every difference, got and wanted, and the command that builds the right one
    """
    wanted = {
        "version": flavour_version,
        "compute_capability": compute_capability,
        "platform": this_platform(),
        "onnx": bundle.manifest.files.get(bundle.manifest.models.get(sidecar.precision, "")),
        "embedding_space": bundle.manifest.embedding_space,
        "engine": record_of(engine) if engine.is_file() else None,
    }
    differences = [
        f"{name.replace('_', ' ')} is {_short(getattr(sidecar, name))}, here {_short(value)}"
        for name, value in wanted.items()
        if getattr(sidecar, name) != value
    ]
    if differences:
        raise EngineError(
            f"{engine}: built for something else: {'; '.join(differences)}; build it again with: "
            f"{rebuild_command(bundle, sidecar)}"
        )


def rebuild_command(bundle: Bundle, sidecar: Sidecar) -> str:
    """The command that builds the engine of a side-car again, for this machine and this bundle."""
    profiles = ",".join(map(str, sidecar.profiles))
    return (
        f"python -m export.tensorrt {bundle.folder} --flavour {sidecar.flavour} --precision {sidecar.precision} "
        f"--batch {profiles} --overwrite"
    )


def _short(value: object) -> str:
    match value:
        case None:
            return "missing"
        case FileRecord():
            return f"sha256 {value.sha256[:12]}, {value.size} bytes"
        case str() if len(value) == 64:  # a SHA-256
            return value[:12]
        case _:
            return str(value)
