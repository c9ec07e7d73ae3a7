"""The precision of a training on a CPU, and the memory that it keeps."""

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._inductor.exc import InductorError

from serving.errors import UsageError
from training.compute import Compute, ComputeOptions, choose_compute, choose_device
from training.fit.workers import join_workers
from training.learner import Learner

COUNT_PAGE_FAULTS = """
import resource
import torch
from serving.memory import keep_freed_memory

{call}
for step in range(24):
    if step == 12:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_used_again_instead_of_fetched_from_the_system():
    def page_faults(call: str) -> int:
        code = COUNT_PAGE_FAULTS.format(call=call)
        return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)

    assert page_faults("keep_freed_memory()") < page_faults("") / 10


@pytest.mark.parametrize(
    ("precision", "has", "warned"),
    [
        ("bf16", {"avx2": True}, True),
        ("bf16", {"avx512_bf16": True}, False),
        ("bf16", {"avx512_bf16": False, "amx_bf16": True}, False),
        ("fp16", {"avx512_bf16": True}, True),
        ("fp32", {}, False),
        ("auto", {}, False),
    ],
)
def test_a_precision_that_the_cpu_emulates_is_warned_of(monkeypatch, capsys, precision, has, warned):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    choose_compute(ComputeOptions(device="cpu", precision=precision))
    assert (f"warning: --precision {precision}: this CPU has neither" in capsys.readouterr().err) == warned


@pytest.mark.parametrize(("capability", "wanted"), [(7, torch.float16), (8, torch.bfloat16), (9, torch.bfloat16)])
def test_a_gpu_that_would_emulate_bf16_takes_fp16(monkeypatch, capability, wanted):
    """PyTorch calls BF16 supported on every GPU that can hold such a tensor."""
    monkeypatch.setattr("training.compute.choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=capability))
    assert choose_compute(ComputeOptions()).dtype is wanted


def test_each_process_of_torchrun_takes_its_gpu_before_anything_else(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "zeros", lambda *_, device: taken.append(str(device)))
    assert choose_device("cuda").type == "cuda"
    assert taken == [1, "cuda"]
    with pytest.raises(UsageError, match=r"^device: got cuda:0, but torchrun gives each process its own GPU"):
        choose_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"^torchrun: process 2 on a machine with 1 GPUs; lower --nproc-per-node"):
        choose_device("cuda")


def test_an_environment_that_is_not_quite_torchruns_is_refused(monkeypatch):
    """Some clusters set WORLD_SIZE alone."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(UsageError, match=r"^environment: got WORLD_SIZE=2, no RANK, no LOCAL_RANK; start the processes"),
        join_workers(torch.device("cpu")),
    ):
        pass


def test_what_a_device_or_a_compiler_lacks_is_told_with_the_way_out():
    compute = Compute(torch.device("cpu"), compile=True)
    with (
        pytest.raises(UsageError, match=r"^device: cpu has too little memory \(full\); lower --batch-size"),
        compute.advice(),
    ):
        raise torch.OutOfMemoryError("full")
    with (
        pytest.raises(UsageError, match=r"^compile: .*no g\+\+.*; install g\+\+, or leave --compile out"),
        compute.advice(),
    ):
        raise InductorError(RuntimeError("no g++"), None)
    with pytest.raises(RuntimeError, match=r"^another$"), compute.advice():
        raise RuntimeError("another")


def test_trainings_of_an_evaluation_tell_it_too(monkeypatch):
    def learn(*_):
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr(Learner, "learn", learn)
    learner = Learner(None, np.zeros((1, 1), np.float32), Compute(torch.device("cpu")), Path())
    with pytest.raises(UsageError, match=r"^device: cpu has too little memory \(full\); lower --batch-size"):
        learner.learn_aside(None, None)
