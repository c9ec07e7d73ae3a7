"""How to install an optional extra: what an error message says where a package is missing."""


def pip_install(extra: str) -> str:
    """The command for an extra of pyproject.toml, and where to give it.

    The project is on no package index, so pip is given its folder. Its path is not told: a server's clients see these
    messages too. With -e, changes of the clone take effect.
    """
    return f'pip install -e ".[{extra}]" in the clone of unheard'
