"""Write a model for Triton Inference Server from a bundle.

python -m export.triton bundles/first --out triton_models/
"""

import importlib
import re
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import onnx
import tyro

from export.triton_readme import readme
from serving.backends.engine_profiles import MOST_ROWS
from serving.backends.engine_sidecar import EngineTensor, Sidecar, check_sidecar, read_sidecar
from serving.bundle.bundle import Bundle, open_bundle
from serving.bundle.bundle_files import ENGINES
from serving.command_line import run_command, say
from serving.errors import EngineError, UsageError
from serving.extras import pip_install
from serving.files.new_folder import new_folder
from serving.trust_option import Trusted

BACKENDS = ("onnxruntime", "tensorrt")
DEVICES = {"auto": "KIND_AUTO", "gpu": "KIND_GPU", "cpu": "KIND_CPU"}
CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Options:
    """Add a bundle's model to a Triton model repository: the model file, config.pbtxt and a README."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    out: Path
    """model repository; created if it does not exist"""
    name: str | None = None
    """model name in Triton; default: the name of the bundle folder"""
    backend: str = "onnxruntime"
    """onnxruntime (the ONNX file, for any machine) or tensorrt (an engine of the bundle, for one type of GPU)"""
    precision: str = "fp32"
    """fp32, fp16 or int8; the bundle must contain it"""
    engine: Path | None = None
    """engine file, if the bundle has several of this precision"""
    device: str = "auto"
    """auto (all GPUs, or the CPU if there is none), gpu or cpu"""
    instances: int = 1
    """number of model instances on each device that run in parallel"""
    max_batch: int | None = None
    """maximum number of windows in one call; default: 64, or the engine's maximum"""
    max_queue_delay_us: int = 2_000
    """longest time that a request waits for others to form a batch, in microseconds"""
    overwrite: bool = False
    """replace an existing model of this name"""
    trust: Trusted = ()


@dataclass(frozen=True)
class TritonModel:
    """The files of a model and its tensors.

    files      source -> name in the model's version folder
    sidecar    of the engine; None for an ONNX file
    """

    files: dict[Path, str]
    input: EngineTensor
    output: EngineTensor
    sidecar: Sidecar | None


def write_model(options: Options) -> dict[str, Any]:
    """Write the model's folder and return the JSON result."""
    bundle = open_bundle(options.bundle, options.trust)
    name = options.name or bundle.folder.resolve().name
    check_options(options, name)
    schema = load_schema()
    model = engine_model(bundle, options) if options.backend == "tensorrt" else onnx_model(bundle, options)
    config = build_config(options, name, model, schema)
    with new_folder(options.out / name, options.overwrite, CONFIG) as folder:
        version = folder / "1"
        version.mkdir()
        for source, target in model.files.items():
            shutil.copyfile(source, version / target)
        (folder / CONFIG).write_text(importlib.import_module("google.protobuf.text_format").MessageToString(config))
        text = readme(name, bundle.manifest, model.input, model.output, config.max_batch_size, model.sidecar)
        (folder / "README.md").write_text(text)
        size = sum(path.stat().st_size for path in version.iterdir())
    say(f"wrote {options.out / name}; its README.md explains how to start Triton")
    return {
        "out": str(options.out / name),
        "name": name,
        "backend": options.backend,
        "precision": options.precision,
        "max_batch": config.max_batch_size,
        "bytes": size,
    }


def check_options(options: Options, name: str) -> None:
    """Raise UsageError if a flag has a wrong value."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(f"--name: got {name!r}; wanted letters, digits, dots, dashes and underscores")
    for flag, value, known in (("--backend", options.backend, BACKENDS), ("--device", options.device, DEVICES)):
        if value not in known:
            raise UsageError(f"{flag}: got {value}; wanted {', '.join(known)}")
    if options.backend == "tensorrt" and options.device == "cpu":
        raise UsageError("--device: got cpu; an engine runs only on a GPU; use --backend onnxruntime")
    if options.engine is not None and options.backend != "tensorrt":
        raise UsageError(f"--engine: works only with --backend tensorrt, got {options.backend}")
    if not 1 <= options.instances <= 1024:
        raise UsageError(f"--instances: got {options.instances}; wanted 1 to 1024")
    if not 0 <= options.max_queue_delay_us <= 10**9:
        raise UsageError(f"--max-queue-delay-us: got {options.max_queue_delay_us}; wanted 0 to 1000000000")


def load_schema() -> Any:
    """Load Triton's protobuf schema of a model configuration. UsageError: it is not installed."""
    try:
        return importlib.import_module("tritonclient.grpc.model_config_pb2")
    except ImportError as error:
        raise UsageError(f"Triton's schema is not installed ({error}); get it with: {pip_install('triton')}") from error


def onnx_model(bundle: Bundle, options: Options) -> TritonModel:
    """The bundle's ONNX file of a precision. A bundle's files keep their weights inside (serving.bundle.onnx_check)."""
    path = bundle.model(options.precision)
    graph = onnx.load(path).graph
    return TritonModel({path: "model.onnx"}, _tensor(graph.input[0]), _tensor(graph.output[0]), None)


def _tensor(value: onnx.ValueInfoProto) -> EngineTensor:
    """Name and shape of a graph's input or output. The first dimension is the batch."""
    sizes = value.type.tensor_type.shape.dim
    return EngineTensor(value.name, "float32", (-1, *(size.dim_value for size in sizes[1:])))


def engine_model(bundle: Bundle, options: Options) -> TritonModel:
    """The bundle's engine of flavour tensorrt. Triton's container must have the same version of TensorRT.

    errors   EngineError: there is no such engine or more than one, it was built from another bundle, or it does not
             accept a batch of one window
    """
    found = [options.engine] if options.engine else sorted((bundle.folder / ENGINES).glob("*.engine"))
    sidecars = {engine: read_sidecar(engine) for engine in found}
    fitting = [
        engine
        for engine, sidecar in sidecars.items()
        if (sidecar.flavour, sidecar.precision) == ("tensorrt", options.precision)
    ]
    if len(fitting) != 1:
        have = ", ".join(engine.name for engine in found) or "none"
        way_out = (
            "choose one with --engine"
            if fitting
            else (
                f"build it with: python -m export.tensorrt {bundle.folder} --flavour tensorrt "
                f"--precision {options.precision}"
            )
        )
        raise EngineError(
            f"{bundle.folder / ENGINES}: wanted one {options.precision} engine of flavour tensorrt (Triton does not "
            f"run tensorrt-rtx), got {len(fitting)} among {have}; {way_out}"
        )
    engine, sidecar = fitting[0], sidecars[fitting[0]]
    # The engine runs on another machine, so its own version and compute capability are the expected ones.
    check_sidecar(engine, sidecar, bundle, sidecar.version, sidecar.compute_capability)
    if min(profile.least for profile in sidecar.profiles) > 1:
        raise EngineError(
            f"{engine}: does not accept one window, but Triton sends single windows; build it with --batch 1:8:64"
        )
    return TritonModel({engine: "model.plan"}, sidecar.input, sidecar.output, sidecar)


def build_config(options: Options, name: str, model: TritonModel, schema: Any) -> Any:
    """Fill the model's configuration: a schema.ModelConfig message."""
    most = 64 if model.sidecar is None else max(profile.most for profile in model.sidecar.profiles)
    limit = MOST_ROWS if model.sidecar is None else most
    max_batch = most if options.max_batch is None else options.max_batch
    if not 1 <= max_batch <= limit:
        raise UsageError(f"--max-batch: got {max_batch}; wanted 1 to {limit}")
    config = schema.ModelConfig(name=name, backend=options.backend, max_batch_size=max_batch)
    for tensors, tensor in ((config.input, model.input), (config.output, model.output)):
        tensors.add(name=tensor.name, data_type=schema.TYPE_FP32, dims=tensor.shape[1:])
    config.dynamic_batching.max_queue_delay_microseconds = options.max_queue_delay_us
    kind = "KIND_GPU" if model.sidecar is not None else DEVICES[options.device]
    group = config.instance_group.add(count=options.instances, kind=schema.ModelInstanceGroup.Kind.Value(kind))
    sizes = {1, max_batch}
    if model.sidecar is not None:
        # The engine is fastest at these batch sizes. Triton uses only the first profile unless all are listed.
        tuned = {profile.best for profile in model.sidecar.profiles if 1 < profile.best <= max_batch}
        config.dynamic_batching.preferred_batch_size.extend(sorted(tuned))
        group.profile.extend(str(index) for index in range(len(model.sidecar.profiles)))
        sizes |= tuned
    elif kind != "KIND_CPU":
        # TF32 has a 10-bit mantissa. Without HEURISTIC, each new batch size makes cuDNN measure its kernels again.
        accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="cuda")
        accelerator.parameters["use_tf32"] = "0"
        accelerator.parameters["cudnn_conv_algo_search"] = "HEURISTIC"
    for rows in sorted(sizes):
        warmup = config.model_warmup.add(name=f"silence, batch {rows}", batch_size=rows)
        silence = warmup.inputs[model.input.name]
        silence.data_type = schema.TYPE_FP32
        silence.dims.extend(model.input.shape[1:])
        silence.zero_data = True
    return config


main = partial(run_command, Options, write_model, "python -m export.triton")

if __name__ == "__main__":
    raise SystemExit(main())
