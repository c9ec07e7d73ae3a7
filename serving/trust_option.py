"""The flag --trust of every command that opens a bundle.

trust: Trusted = ()
"""

from pathlib import Path
from typing import Annotated

import tyro

Trusted = Annotated[
    tuple[Path, ...],
    tyro.conf.arg(
        help="files with public keys, see python -m export.sign: only a bundle that one of them has signed is opened; "
        "default: any bundle"
    ),
]
