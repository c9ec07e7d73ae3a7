"""Python imports this module when it starts. It hides the packages that UNHEARD_ABSENT names.

They behave as if they were not installed: an import raises ModuleNotFoundError, importlib.util.find_spec returns None.
tests.absent_packages puts this folder on the path of a process.
"""

import os
from importlib.machinery import PathFinder

ABSENT = tuple(os.environ.get("UNHEARD_ABSENT", "").split(","))
find_installed = PathFinder.find_spec


def find_spec(name, path=None, target=None):
    """None for the packages and modules in ABSENT; otherwise what is installed."""
    if any(name == absent or name.startswith(absent + ".") for absent in ABSENT):
        return None
    return find_installed(name, path, target)


PathFinder.find_spec = find_spec
