"""The side-car: a JSON file beside a TensorRT engine, with what it was built from and for.

It is checked before an engine is opened, because TensorRT itself checks almost nothing. The two files are
engines/<flavour>-<version>-sm<compute capability>-<precision>.engine and the same name with .json.
"""

import json
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.backends.engine_profiles import Profile
from serving.bundle.bundle import Bundle
from serving.errors import EngineError
from serving.files.atomic_write import write_atomically
from serving.files.file_record import FileRecord, record_of

SIDECAR_SCHEMA = 1


@dataclass(frozen=True)
class EngineTensor:
    """Name, dtype ("float32") and shape of an engine's input or output; the batch dimension is -1."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Sidecar:
    """What an engine was built from and for.

    flavour, version      "tensorrt" or "tensorrt-rtx", and its exact version
    compute_capability    compute capability of the GPU, like "8.9"
    platform              like "linux-x86_64"; an engine does not run on another platform
    precision             precision of the ONNX file: fp32, fp16 or int8
    onnx, engine          size and SHA-256 of the ONNX file and of the engine
    embedding_space       the bundle's embedding space
    workspace_mb          limit of the builder's scratch memory in megabytes; None: all memory of the GPU
    """

    flavour: str
    version: str
    compute_capability: str
    platform: str
    precision: str
    profiles: tuple[Profile, ...]
    input: EngineTensor
    output: EngineTensor
    onnx: FileRecord
    engine: FileRecord
    embedding_space: str
    optimisation_level: int
    workspace_mb: int | None
    build_seconds: float
    schema_version: int = SIDECAR_SCHEMA


def engine_name(flavour: str, version: str, compute_capability: str, precision: str) -> str:
    """File name of an engine: tensorrt-rtx-1.7.1.116-sm89-fp16.engine."""
    return f"{flavour}-{version}-sm{compute_capability.replace('.', '')}-{precision}.engine"


def this_platform() -> str:
    """Operating system and processor, like "linux-x86_64"."""
    return f"{sys.platform}-{platform.machine().lower()}"


def sidecar_path(engine: Path) -> Path:
    """The path of an engine's side-car."""
    return engine.with_suffix(".json")


def write_sidecar(engine: Path, sidecar: Sidecar) -> None:
    """Write a side-car beside its engine, completely or not at all."""
    text = json.dumps(asdict(sidecar), indent=1) + "\n"
    write_atomically(sidecar_path(engine), lambda temporary: temporary.write_text(text))


def read_sidecar(engine: Path) -> Sidecar:
    """Read an engine's side-car. EngineError: it is missing, damaged or has another schema version."""
    path = sidecar_path(engine)
    again = "without it the engine cannot be checked; build it again with: python -m export.tensorrt BUNDLE"
    try:
        return _parse(json.loads(path.read_bytes()))
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror}); {again}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineError(f"{path}: not an engine's side-car ({error}); {again}") from error


def _parse(raw: dict[str, Any]) -> Sidecar:
    version = raw.get("schema_version")
    if version != SIDECAR_SCHEMA:
        raise ValueError(f"schema version {version}, this program reads {SIDECAR_SCHEMA}")
    for name in ("input", "output"):
        raw[name] = EngineTensor(raw[name]["name"], raw[name]["dtype"], tuple(raw[name]["shape"]))
    for name in ("onnx", "engine"):
        raw[name] = FileRecord(**raw[name])
    raw["profiles"] = tuple(Profile(**profile) for profile in raw["profiles"])
    return Sidecar(**raw)


def check_sidecar(
    engine: Path, sidecar: Sidecar, bundle: Bundle, flavour_version: str, compute_capability: str
) -> None:
    """Refuse an engine that was built from another bundle, or for another TensorRT or GPU.

    flavour_version     version of the installed package of the side-car's flavour
    compute_capability  compute capability of the GPU
    errors              EngineError: lists every difference, and the command that builds the right engine
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
    """The command that builds the engine again for this machine and this bundle."""
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
