"""Marks for tests that need an NVIDIA GPU, and for tests that need a machine without one."""

import pytest

from serving.backends.cuda_api import find_gpu
from serving.errors import CudaError, UsageError


def has_gpu() -> bool:
    """Whether CUDA finds a GPU here."""
    try:
        find_gpu()
    except (CudaError, UsageError):
        return False
    return True


no_gpu = pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
needs_gpu = pytest.mark.skipif(not has_gpu(), reason="this machine has no GPU that works")
