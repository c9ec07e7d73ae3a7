"""Build a TensorRT engine from an ONNX file with `tensorrt` 10.13+ or 11, or with `tensorrt_rtx` (the same API)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from serving.backends.engine_profiles import Profile
from serving.backends.engine_sidecar import EngineTensor, Sidecar, this_platform, write_sidecar
from serving.backends.tensorrt_flavours import load_flavour, make_log, shape_of
from serving.bundle.bundle import Bundle
from serving.command_line import progress_console, say
from serving.errors import EngineError
from serving.files.atomic_write import write_atomically
from serving.files.file_record import record_of

if TYPE_CHECKING:
    import tensorrt

DEFAULT_LEVEL = 3  # TensorRT's default
HIGHEST_LEVEL = 5


@dataclass(frozen=True)
class Target:
    """The GPU to build for and the build settings.

    compute_capability   of the GPU, e.g. "8.9"
    optimisation_level   0 to HIGHEST_LEVEL
    workspace_mb         limit of the engine's workspace memory in megabytes; None: all memory of the GPU
    timing_cache         file of measured kernel times, which the build reads and updates; None: no file
    """

    flavour: str
    version: str
    compute_capability: str
    profiles: list[Profile]
    optimisation_level: int
    workspace_mb: int | None
    timing_cache: Path | None


def known_capabilities(flavour: str) -> list[str]:
    """The compute capabilities that a flavour can cross-build for, e.g. "8.9"; [] if it builds for this GPU only."""
    if flavour != "tensorrt-rtx":
        return []
    return [f"{name[2:-1]}.{name[-1]}" for name in _rtx_capabilities() if name.startswith("SM")]


def _rtx_capabilities() -> dict[str, Any]:
    return cast(Any, load_flavour("tensorrt-rtx")).ComputeCapability.__members__  # missing in TensorRT's stubs


def build_engine(target: Target, bundle: Bundle, precision: str, source: Path, path: Path) -> Sidecar:
    """Build one engine and write it with its side-car file.

    source   the ONNX file; its tensor types decide the precision of every layer
    path     of the engine; written to a temporary name, then renamed
    errors   EngineError: the file cannot be parsed (each failed node is printed on stderr) or built, or its input and
             output are not float32 with a leading batch dimension; nothing is written then
    """
    trt = load_flavour(target.flavour)
    log, errors = make_log(target.flavour)
    builder = trt.Builder(log)
    # In TensorRT 11 and RTX every network is strongly typed, and the flag may be missing.
    flag = trt.NetworkDefinitionCreationFlag.__members__.get("STRONGLY_TYPED")
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(source)):
        raise EngineError(_parser_errors(parser, source))
    waveform, embedding = _tensors(network, source)
    config = _configure(target, builder, waveform)
    started = time.perf_counter()
    with _progress(target.flavour, config, f"{precision} engine"):
        plan = builder.build_serialized_network(network, config)
    seconds = time.perf_counter() - started
    if plan is None:
        reason = "; ".join(errors) or "it gives no reason"
        way_out = "; a larger --workspace-mb may help" if target.workspace_mb else ""
        raise EngineError(f"{source}: {target.flavour} cannot build it ({reason}){way_out}")
    if target.timing_cache is not None:
        _write(target.timing_cache, config.get_timing_cache().serialize())
    _write(path, plan)
    sidecar = Sidecar(
        flavour=target.flavour,
        version=target.version,
        compute_capability=target.compute_capability,
        platform=this_platform(),
        precision=precision,
        profiles=tuple(target.profiles),
        input=waveform,
        output=embedding,
        onnx=record_of(source),
        engine=record_of(path),
        embedding_space=bundle.manifest.embedding_space,
        optimisation_level=config.builder_optimization_level,
        workspace_mb=target.workspace_mb,
        build_seconds=round(seconds, 3),
    )
    write_sidecar(path, sidecar)
    return sidecar


def _parser_errors(parser: "tensorrt.OnnxParser", source: Path) -> str:
    """Print every error with its node. Returns a summary in one line."""
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    lines = [f"{error.node_operator()} {error.node_name()}: {' '.join(error.desc().split())}" for error in errors]
    for error, line in zip(errors, lines, strict=True):
        say(f"node {error.node()}, {line}")
    first = f", the first at {lines[0]}" if lines else ""
    return f"{source}: TensorRT cannot read it, {len(lines)} errors{first}; export the bundle again"


def _tensors(network: "tensorrt.INetworkDefinition", source: Path) -> tuple[EngineTensor, EngineTensor]:
    """The network's only input and only output."""
    if (network.num_inputs, network.num_outputs) != (1, 1):
        raise EngineError(
            f"{source}: has {network.num_inputs} inputs and {network.num_outputs} outputs; wanted one of each"
        )
    both = []
    for tensor in (network.get_input(0), network.get_output(0)):
        dtype, shape = tensor.dtype.name.lower(), shape_of(tensor.shape)
        if dtype != "float" or shape[0] != -1 or -1 in shape[1:]:
            raise EngineError(
                f"{source}: {tensor.name} is {dtype} {list(shape)}; wanted float with only the first size dynamic (-1)"
            )
        both.append(EngineTensor(tensor.name, "float32", shape))
    return both[0], both[1]


def _configure(target: Target, builder: "tensorrt.Builder", source: EngineTensor) -> "tensorrt.IBuilderConfig":
    trt = load_flavour(target.flavour)
    config = builder.create_builder_config()
    # The front end is FP32 in every precision, and TF32 multiplies with only 10 bits of mantissa.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.builder_optimization_level = target.optimisation_level
    if target.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, target.workspace_mb * 1_000_000)
    for sizes in target.profiles:
        profile = builder.create_optimization_profile()
        least, best, most = (trt.Dims([rows, *source.shape[1:]]) for rows in (sizes.least, sizes.best, sizes.most))
        profile.set_shape(source.name, least, best, most)
        if config.add_optimization_profile(profile) < 0:
            raise EngineError(f"{target.flavour} refuses the profile {sizes}; give another --batch")
    if target.flavour == "tensorrt-rtx":
        rtx_config = cast(Any, config)  # missing in TensorRT's stubs
        rtx_config.num_compute_capabilities = 1
        member = f"SM{target.compute_capability.replace('.', '')}"
        rtx_config.set_compute_capability(_rtx_capabilities()[member], 0)
    if target.timing_cache is not None:
        stored = target.timing_cache.read_bytes() if target.timing_cache.exists() else b""
        config.set_timing_cache(config.create_timing_cache(stored), False)
    return config


@contextmanager
def _progress(flavour: str, config: "tensorrt.IBuilderConfig", title: str) -> Iterator[None]:
    """Show the builder's current phases as progress bars."""
    trt = load_flavour(flavour)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress_console, transient=True) as bars:
        bars.add_task(title, total=None)
        tasks: dict[str, TaskID] = {}

        class Monitor(trt.IProgressMonitor):
            def __init__(self) -> None:
                trt.IProgressMonitor.__init__(self)  # pybind11 does not accept super().__init__()

            def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
                tasks[phase_name] = bars.add_task(phase_name, total=num_steps)

            def step_complete(self, phase_name: str, step: int) -> bool:
                bars.update(tasks[phase_name], completed=step + 1)
                return True

            def phase_finish(self, phase_name: str) -> None:
                bars.remove_task(tasks.pop(phase_name))

        config.progress_monitor = Monitor()
        yield


def _write(path: Path, content: "tensorrt.IHostMemory") -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(memoryview(content)))
