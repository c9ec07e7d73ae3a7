"""The flag --trust of every command that opens a bundle.

trust: Trusted = ()
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro


def _keys_of(values: Sequence[str]) -> tuple[Path, ...]:
    """The files that were given. ValueError: there is none, as after a shell variable that is empty."""
    if not values or not all(values):
        raise ValueError("got no key; give at least one .pub file")
    return tuple(map(Path, values))


# tyro reads a tuple flag without a value as its default, which is to trust everybody.
_KEYS = tyro.constructors.PrimitiveConstructorSpec(
    nargs="*",
    metavar="PATH [PATH ...]",
    instance_from_str=_keys_of,
    is_instance=lambda value: isinstance(value, tuple),
    str_from_instance=lambda keys: [str(key) for key in keys],
)
Trusted = Annotated[
    tuple[Path, ...],
    _KEYS,
    tyro.conf.arg(
        help="files with public keys, see python -m export.sign: only a bundle that one of them has signed is opened; "
        "default: any bundle",
        help_behavior_hint="",
    ),
]
