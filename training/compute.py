"""The device and the precision of a training."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from serving.command_line import say
from serving.errors import UsageError, one_line
from training.fit.workers import torchrun_processes

NATIVE = {  # what a CPU needs for a precision; without it PyTorch emulates each number
    torch.bfloat16: ("avx512_bf16", "amx_bf16"),
    torch.float16: ("avx512_fp16", "amx_fp16"),
}
PRECISIONS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """What to train on.

    dtype    float32, or bfloat16 or float16 for mixed precision
    compile  whether torch.compile fuses the network
    capture  on a GPU, whether the steps are captured as CUDA graphs
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    compile: bool = False
    capture: bool = field(default=True, repr=False)  # does not change what is computed

    def autocast(self) -> torch.autocast:
        """The context of a forward pass in this precision."""
        return torch.autocast(self.device.type, self.dtype, self.dtype is not torch.float32)

    @contextmanager
    def advice(self) -> Iterator[None]:
        """Turn what the device or the compiler lacks for a training into a UsageError with the way out."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise UsageError(
                f"device: {self.device} has too little memory ({one_line(error, 200)}); lower --batch-size, or give "
                "--device cpu"
            ) from error
        except RuntimeError as error:
            if not (self.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))):
                raise
            raise UsageError(
                f"compile: the network cannot be compiled ({one_line(error, 200)}); install g++, or leave --compile out"
            ) from error


@dataclass(frozen=True, kw_only=True)
class ComputeOptions:
    """The flags that choose a `Compute`."""

    device: str = "auto"
    """auto, cpu, cuda or cuda:N"""
    precision: str = "auto"
    """fp32, or mixed with bf16 or fp16; auto: mixed on a GPU, fp32 on a CPU"""
    compile: bool = False
    """let torch.compile fuse the network (needs a C++ compiler)"""


def choose_compute(options: ComputeOptions) -> Compute:
    """Read the flags, and warn of a precision that this CPU emulates.

    errors   UsageError: an unknown precision, or a device that this machine does not have
    """
    if options.precision not in PRECISIONS:
        raise UsageError(f"precision: got {options.precision}; wanted one of {', '.join(PRECISIONS)}")
    device = choose_device(options.device)
    dtype = PRECISIONS[options.precision]
    if dtype is None:
        dtype = _mixed_dtype() if device.type == "cuda" else torch.float32
    if device.type == "cpu" and dtype in NATIVE:
        has = torch.cpu.get_capabilities()
        if not any(has.get(name) for name in NATIVE[dtype]):
            say(
                f"warning: --precision {options.precision}: this CPU has neither {' nor '.join(NATIVE[dtype])}, so it "
                "can take 20 times as long as fp32"
            )
    return Compute(device, dtype, options.compile)


def choose_device(name: str) -> torch.device:
    """The device with this name; for auto, a GPU if there is one. Of torchrun's processes each has its own GPU.

    errors   UsageError: this machine does not have it, or has fewer GPUs than processes
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda") or name.startswith("cpu:"):
            raise UsageError(f"device: got {name}; wanted auto, cpu, cuda or cuda:N")
        if device.type == "cuda":
            _take_own_gpu(device)  # before the first tensor, which would open every process's context on GPU 0
        torch.zeros(1, device=device)
        if device.index is not None:
            torch.cuda.set_device(device)  # streams and graphs are the current device's
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device: got {name}, which this machine does not have; try --device auto") from error
    return device


def _take_own_gpu(device: torch.device) -> None:
    count, local = torchrun_processes()
    if count == 1:
        return
    if device.index is not None:
        raise UsageError(f"device: got {device}, but torchrun gives each process its own GPU; give --device cuda")
    if local >= (gpus := torch.cuda.device_count()):
        raise UsageError(f"torchrun: process {local + 1} on a machine with {gpus} GPUs; lower --nproc-per-node")
    torch.cuda.set_device(local)


def _mixed_dtype() -> torch.dtype:
    """The mixed precision of the current GPU: before Ampere (compute capability 8), BF16 would be emulated."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
