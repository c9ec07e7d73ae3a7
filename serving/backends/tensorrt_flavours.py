"""TensorRT and TensorRT-RTX: two packages with the same API, imported only when they are used."""

import importlib
import importlib.util
import logging
from collections import deque
from typing import TYPE_CHECKING

from serving.errors import UsageError
from serving.extras import pip_install

if TYPE_CHECKING:
    import tensorrt

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}  # flavour -> Python module
FLAVOURS = tuple(MODULES)

logger = logging.getLogger(__name__)


def installed_flavours() -> list[str]:
    """The flavours that are installed."""
    return [flavour for flavour, module in MODULES.items() if _is_installed(module)]


def _is_installed(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    # Type stubs without the package leave a folder of the module's name, which is a namespace package without origin.
    return spec is not None and spec.origin is not None


def load_flavour(flavour: str):
    """Import the Python module of a flavour. It has the type of NVIDIA's `tensorrt`.

    errors   UsageError: the flavour is unknown, not installed, or cannot be loaded
    """
    if flavour not in MODULES:
        raise UsageError(f"--flavour: got {flavour}; wanted {' or '.join(FLAVOURS)}")
    if not _is_installed(MODULES[flavour]):
        raise UsageError(f"{flavour} is not installed; get it with: {pip_install(flavour)}")
    if TYPE_CHECKING:
        import tensorrt as module
    else:
        try:
            module = importlib.import_module(MODULES[flavour])
        except (ImportError, OSError) as error:
            raise UsageError(f"{flavour} is installed but cannot be loaded ({error}); install it again") from error
    return module


def shape_of(dims: "tensorrt.Dims") -> tuple[int, ...]:
    """TensorRT's dimensions as a tuple; -1 is dynamic."""
    return tuple(dims[i] for i in range(len(dims)))


def make_log(flavour: str) -> "tuple[tensorrt.ILogger, deque[str]]":
    """A TensorRT logger, and the list in which it keeps the last errors. Warnings go to Python's logging."""
    trt = load_flavour(flavour)
    errors: deque[str] = deque(maxlen=20)

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 requires this instead of super()

        def log(self, severity: "tensorrt.ILogger.Severity", msg: str) -> None:
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                errors.append(msg)
            elif severity == trt.ILogger.Severity.WARNING:
                logger.warning("%s", msg)

    return Log(), errors
