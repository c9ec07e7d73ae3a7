"""The precision of a training on a CPU, and the memory that it keeps."""

import platform
import subprocess
import sys

import pytest
import torch

from training.compute import ComputeOptions, choose_compute

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
