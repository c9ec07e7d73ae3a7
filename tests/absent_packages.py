"""Run processes in which some packages, such as torch, are not installed."""

import os
from pathlib import Path

# Python imports the module sitecustomize of this folder at its start.
BLOCKER = Path(__file__).parent / "absent"


def environment_without(*names: str) -> dict[str, str]:
    """The environment of a process, for subprocess's `env`, that finds none of these packages or modules."""
    path = os.pathsep.join(filter(None, [str(BLOCKER), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "UNHEARD_ABSENT": ",".join(names)}
