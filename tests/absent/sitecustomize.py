"""Python imports this at its start where tests.absent_packages asks for it: the packages it names are not found.

Nothing else tells them from packages that are not installed: an import raises ModuleNotFoundError and
importlib.util.find_spec gives None.
"""

import os
from importlib.machinery import PathFinder

ABSENT = tuple(os.environ.get("UNHEARD_ABSENT", "").split(","))
find_installed = PathFinder.find_spec


def find_spec(name, path=None, target=None):
    """None for a package of ABSENT and what is in it, else what is installed."""
    if any(name == absent or name.startswith(absent + ".") for absent in ABSENT):
        return None
    return find_installed(name, path, target)


PathFinder.find_spec = find_spec
