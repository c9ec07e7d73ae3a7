"""A recording that a visitor sent. Messages name it as the visitor does, without its folder on the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.errors import AudioError


def check_upload(path: str | Path | None) -> Path:
    """The path of a recording that was sent. AudioError: there is none."""
    if path is None:
        raise AudioError("recording: got none; send one audio file")
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path.name}: no longer exists; send it again")
    return path


def name_upload(message: str, path: str | Path) -> str:
    """A message about a recording, with its name in place of its path."""
    return message.replace(str(path), Path(path).name)


@contextmanager
def named_upload(path: str | Path) -> Iterator[None]:
    """Let an AudioError of the block give the recording's name in place of its path."""
    try:
        yield
    except AudioError as error:
        raise type(error)(name_upload(str(error), path)) from error
