"""How to install an optional extra: what an error message says where a package is missing."""


def pip_install(*extras: str) -> str:
    """The command for one of the extras of pyproject.toml, and where to give it.

    The project is on no package index, so pip is given its folder. Its path is not told: a server's clients see these
    messages too. With -e, changes of the clone take effect.
    """
    return " or ".join(f'pip install -e ".[{extra}]"' for extra in extras) + " in the clone of unheard"
