"""The machine and the libraries behind a measurement, and the memory of the processes that are measured."""

import platform
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
import soxr
from threadpoolctl import threadpool_info

from serving.backends.onnxruntime_library import onnxruntime
from serving.cores import usable_cores


@dataclass(frozen=True)
class Host:
    """One machine and its software.

    cores   physical cores that this process may use; in a container that can be fewer than the machine has
    blas    NumPy's BLAS and the processor that its kernels were written for, which may differ from `cpu`
    gpus    name and driver of each NVIDIA GPU that nvidia-smi lists
    """

    cpu: str
    cores: int
    ram_gib: float
    gpus: list[str]
    os: str
    python: str
    numpy: str
    blas: str
    onnxruntime: str
    soundfile: str
    libsndfile: str
    soxr: str


def describe_hardware(machine: Mapping[str, Any]) -> str:
    """The hardware of a machine row in one phrase: "AMD EPYC, 2 cores, 23.5 GiB, no GPU"."""
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['ram_gib']:g} GiB, {gpus}"


def describe_software(machine: Mapping[str, Any]) -> str:
    """The system and the libraries of a machine row in one phrase."""
    torch = f", PyTorch {machine['torch']}" if "torch" in machine else ""
    return (
        f"{machine['os']}; Python {machine['python']}, numpy {machine['numpy']} ({machine['blas']}), "
        f"onnxruntime {machine['onnxruntime']}, libsndfile {machine['libsndfile']}, soxr {machine['soxr']}{torch}"
    )


def read_host() -> Host:
    """Read the system's own description. What it does not tell is "unknown"; nothing raises."""
    return Host(
        cpu=_cpu_model(),
        cores=usable_cores(),
        ram_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpus=_gpus(),
        os=_system_name(),
        python=platform.python_version(),
        numpy=np.__version__,
        blas=_blas(),
        onnxruntime=onnxruntime.__version__,
        soundfile=soundfile.__version__,
        libsndfile=soundfile.__libsndfile_version__,
        soxr=soxr.__version__,
    )


def _blas() -> str:
    """The BLAS and its kernels, like "openblas for SkylakeX": an environment variable can select slower kernels."""
    for library in threadpool_info():
        if library["user_api"] == "blas" and "numpy" in library["filepath"]:
            return f"{library['internal_api']} for {library.get('architecture', 'unknown')}"
    return "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    # ARM kernels list no model name; the architecture is the next best.
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "unknown"


def _system_name() -> str:
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def _gpus() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip().replace(", ", ", driver ") for line in done.stdout.splitlines() if line.strip()]


def resident_mb(pid: int | None) -> float | None:
    """Resident memory of a process in MB of 1 000 000 bytes; None if it cannot be read."""
    try:
        return None if pid is None else psutil.Process(pid).memory_info().rss / 1e6
    except psutil.Error:
        return None


def pid_of_listener(host: str, port: int) -> int | None:
    """The process of this machine that listens on a port; None: there is none, or this process may not see it."""
    try:
        if not socket.gethostbyname(host).startswith("127."):
            return None
    except OSError:
        return None
    listening = (each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN)
    return next((each.pid for each in listening if each.pid and each.laddr and each.laddr.port == port), None)
