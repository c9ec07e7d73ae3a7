"""What an error of the system says of a job: that its own files cannot be written, or which other file is at fault."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.bulk.embed_options import EmbedOptions
from serving.errors import UsageError
from serving.files.new_folder import files_named

KEPT = "finished parts are kept: correct this and give the same command again"


@contextmanager
def system_errors_told(options: EmbedOptions) -> Iterator[None]:
    """Tell an OSError of the block as a UsageError of one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        others = [path for path in files_named(error) if not _is_own(path, options)]
        if others:
            raise UsageError(f"{others[0]}: cannot be used ({reason}); {KEPT}") from error
        raise UsageError(f"{options.out}: cannot be written ({reason}); {KEPT}") from error


def _is_own(path: Path, options: EmbedOptions) -> bool:
    """Whether the job makes the file, or the folder of its results."""
    out, errors, parts, path = (each.absolute() for each in (options.out, options.errors, options.parts, path))
    # While the job begins and ends, its folder is inside a hidden one, or is called like that.
    return path in (out, errors, out.parent) or any(
        each.parent == out.parent and each.name.lstrip(".").startswith(parts.name) for each in (path, *path.parents)
    )
