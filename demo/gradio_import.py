"""Import the page with Gradio, which takes most of the demo's start, in less time."""

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any
from unittest.mock import patch

STUB_WRITER = "gradio.component_meta"
PAGE = "demo.gradio_page"


def import_page() -> ModuleType:
    """Import the page, without Gradio's type stubs.

    At each import Gradio makes the stubs of its components anew, to write them beside its own files for editors. That
    is 40 % of its import (1.2 of 2.9 CPU-seconds), and the demo does not need them. Gradio makes none for a class
    whose file `inspect.getfile` cannot tell.
    """
    with patch.object(inspect, "getfile", _getfile):
        return import_module(PAGE)


_real_getfile = inspect.getfile


def _getfile(thing: Any) -> str:
    if sys._getframe(1).f_globals.get("__name__") == STUB_WRITER:
        raise OSError("no type stubs")
    return _real_getfile(thing)
