"""A training keeps the memory that it has freed."""

import platform
import subprocess
import sys

import pytest

COUNT_PAGE_FAULTS = """
import resource
import torch
from training.compute import keep_freed_memory

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
