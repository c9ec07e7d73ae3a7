"""What a number was measured on: the machine and the libraries that did the work. A time without it means nothing."""

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile
import soxr
from threadpoolctl import threadpool_info

from serving.embedder import usable_cores


@dataclass(frozen=True)
class Machine:
    """One machine and its software.

    cores   that this process may use, which in a container can be fewer than the machine has
    blas    of NumPy, with the processor that its kernels are for: not always this one
    gpus    name and driver of each NVIDIA GPU that nvidia-smi shows; empty where there is none
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

    def __str__(self) -> str:
        gpus = ", ".join(self.gpus) or "no GPU"
        return (
            f"{self.cpu}, {self.cores} cores, {self.ram_gib:g} GiB, {gpus}; {self.os}; Python {self.python}, "
            f"numpy {self.numpy} ({self.blas}), onnxruntime {self.onnxruntime}, libsndfile {self.libsndfile}, "
            f"soxr {self.soxr}"
        )


def this_machine() -> Machine:
    """Ask the system. What it does not tell is "unknown"; nothing raises."""
    return Machine(
        cpu=_cpu_model(),
        cores=usable_cores(),
        ram_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
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
    """ "openblas for SkylakeX": an environment variable can choose kernels of half the speed."""
    for library in threadpool_info():
        if library["user_api"] == "blas" and "numpy" in library["filepath"]:
            return f"{library['internal_api']} for {library.get('architecture', 'unknown')}"
    return "unknown"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    # ARM kernels give no model name: the architecture is all that is left to say.
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
