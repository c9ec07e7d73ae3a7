"""Build TensorRT engines from a bundle's ONNX files, each with a side-car file that describes its target.

python -m export.tensorrt bundles/first --precision fp32,fp16
python -m export.tensorrt bundles/first --flavour tensorrt-rtx --compute-capability 8.9     # needs no GPU
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import tyro
from rich.table import Table

from export.bundle_update import put_files
from export.engine import DEFAULT_LEVEL, HIGHEST_LEVEL, Target, build_engine, known_capabilities
from export.precision_flag import parse_precisions
from serving.backends.cuda_api import find_gpu
from serving.backends.engine_profiles import parse_profiles
from serving.backends.engine_sidecar import Sidecar, engine_name, sidecar_path
from serving.backends.tensorrt_flavours import FLAVOURS, installed_flavours, load_flavour
from serving.bundle.bundle import open_bundle
from serving.bundle.bundle_files import ENGINES
from serving.command_line import console, run_command
from serving.errors import CudaError, UsageError
from serving.extras import pip_install
from serving.trust_option import Trusted


@dataclass(frozen=True)
class Options:
    """Build TensorRT engines from a bundle and write them into its folder engines/."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    flavour: str | None = None
    """tensorrt or tensorrt-rtx; default: the installed one"""
    precision: str = "fp32"
    """fp32, fp16, int8, separated by commas; the bundle must contain a model of each"""
    batch: str = "1:8:64"
    """batch sizes of a call, min:optimum:max; several profiles are separated by commas: 1:1:1,1:8:64"""
    compute_capability: str | None = None
    """compute capability of the target GPU, e.g. 8.9; default: this machine's GPU. Only tensorrt-rtx can build for
    another GPU"""
    workspace_mb: int | None = None
    """limit of the engine's workspace memory on the GPU, in megabytes; default: all memory of the GPU"""
    optimisation_level: int = DEFAULT_LEVEL
    """0 to 5; a higher level takes longer to build and can give a faster engine"""
    timing_cache: Path | None = None
    """file that stores measured kernel times for later builds; tensorrt only"""
    overwrite: bool = False
    """replace existing engines"""
    trust: Trusted = ()


def build_engines(options: Options) -> dict[str, Any]:
    """Build an engine for each precision and return the JSON result."""
    bundle = open_bundle(options.bundle, options.trust)
    precisions = parse_precisions(options.precision)
    sources = {precision: bundle.model(precision) for precision in precisions}
    target = find_target(options)
    folder = bundle.folder / ENGINES
    paths = {
        precision: folder / engine_name(target.flavour, target.version, target.compute_capability, precision)
        for precision in precisions
    }
    for path in paths.values():
        if f"{ENGINES}/{path.name}" in bundle.manifest.files and not options.overwrite:
            raise UsageError(f"{path}: exists already; give --overwrite to build it again")
    built = []
    try:
        folder.mkdir(exist_ok=True)
        for precision, path in paths.items():
            with TemporaryDirectory(prefix=".new-", dir=folder) as place:
                new = Path(place) / path.name
                built.append(build_engine(target, bundle, precision, sources[precision], new))
                files = {f"{ENGINES}/{file.name}": file for file in (sidecar_path(new), new)}
                put_files(bundle, files, options.overwrite)
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder}: cannot be read or written ({error.strerror or error}); check its permissions"
        ) from error
    _print_table(target, built)
    return {
        "flavour": target.flavour,
        "version": target.version,
        "compute_capability": target.compute_capability,
        "engines": [
            {
                "path": str(paths[sidecar.precision]),
                "precision": sidecar.precision,
                "bytes": sidecar.engine.size,
                "onnx_bytes": sidecar.onnx.size,
                "build_seconds": sidecar.build_seconds,
            }
            for sidecar in built
        ],
    }


def find_target(options: Options) -> Target:
    """Combine the flags with the installed TensorRT and this machine's GPU.

    errors   UsageError: a flag is wrong, or TensorRT is not installed; CudaError: the build needs a GPU and none works
    """
    if not 0 <= options.optimisation_level <= HIGHEST_LEVEL:
        raise UsageError(f"--optimisation-level: got {options.optimisation_level}; wanted 0 to {HIGHEST_LEVEL}")
    if options.workspace_mb is not None and options.workspace_mb < 1:
        raise UsageError(f"--workspace-mb: got {options.workspace_mb}; wanted at least 1")
    profiles = parse_profiles(options.batch)
    flavour = options.flavour or next(iter(installed_flavours()), None)
    if flavour is None:
        raise UsageError(f"neither {' nor '.join(FLAVOURS)} is installed; install one with: {pip_install(*FLAVOURS)}")
    version = load_flavour(flavour).__version__
    if options.timing_cache is not None and flavour == "tensorrt-rtx":
        raise UsageError("--timing-cache: tensorrt-rtx does not measure kernels during a build; leave it out")
    capability = _compute_capability(options, flavour)
    known = known_capabilities(flavour)
    if known and capability not in known:
        raise UsageError(
            f"--compute-capability: got {capability}; {flavour} {version} builds for {', '.join(known)}; "
            "for another GPU use --flavour tensorrt on the machine with that GPU"
        )
    return Target(
        flavour, version, capability, profiles, options.optimisation_level, options.workspace_mb, options.timing_cache
    )


def _compute_capability(options: Options, flavour: str) -> str:
    """The compute capability of the flag, or this machine's."""
    asked = options.compute_capability
    if asked is not None and flavour == "tensorrt-rtx":
        return asked
    try:
        own = find_gpu().compute_capability
    except CudaError as error:
        way_out = "give the target GPU, e.g. --compute-capability 8.9"
        if flavour == "tensorrt":
            way_out = "build where the GPU is, or use --flavour tensorrt-rtx --compute-capability 8.9"
        reason = str(error).split(";")[0]
        raise CudaError(
            f"{flavour} builds for this machine's GPU, but no GPU works here ({reason}); {way_out}"
        ) from error
    if asked not in (None, own):
        raise UsageError(f"--compute-capability: got {asked}; tensorrt builds for this machine's GPU, which has {own}")
    return own


def _print_table(target: Target, built: Sequence[Sidecar]) -> None:
    title = f"{target.flavour} {target.version} for compute capability {target.compute_capability}"
    table = Table(title=title, title_justify="left")
    for column in ("precision", "profiles", "engine, MB", "ONNX, MB", "build, s"):
        table.add_column(column, justify="left" if column == "profiles" else "right")
    for sidecar in built:
        table.add_row(
            sidecar.precision,
            ",".join(map(str, sidecar.profiles)),
            f"{sidecar.engine.size / 1e6:.1f}",
            f"{sidecar.onnx.size / 1e6:.1f}",
            f"{sidecar.build_seconds:.1f}",
        )
    console.print(table)


main = partial(run_command, Options, build_engines, "python -m export.tensorrt")

if __name__ == "__main__":
    raise SystemExit(main())
