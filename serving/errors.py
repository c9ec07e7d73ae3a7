"""Errors typed by who must act. Each message is one line: what came, what was wanted, the way out.

Commands print it and exit with 2; the server turns it into a 4xx. Anything else is a fault of ours.
"""


class UnheardError(Exception):
    """Wrong input of any kind. exit_code: of the command that it ends."""

    exit_code = 2


class UsageError(UnheardError):
    """A flag or an argument is wrong: the caller of the command must change it."""


class AudioError(UnheardError):
    """A recording cannot be used: whoever sent it must send another."""


class FormatError(AudioError):
    """The bytes are not an audio file in a format that is read here."""


class DurationError(AudioError):
    """A recording is longer than whoever runs the program allows."""


class AudioWarning(UserWarning):
    """A recording was read, but not all of it: the message says what was left out."""


class LabelError(UnheardError):
    """A label is not one that this bundle knows."""


class BundleError(UnheardError):
    """A bundle is missing, incomplete or changed: whoever made it must export it again."""


class DataError(UnheardError):
    """A data set is missing or broken: the message names the file and, where there is one, the row."""


class RunError(UnheardError):
    """A run folder cannot be written, read or continued."""


class EngineError(UnheardError):
    """A TensorRT engine does not fit this machine or this bundle: it must be built again."""


class CudaError(UnheardError):
    """CUDA refused a call; the message begins with CUDA's own name of the reason."""


class BackendError(UnheardError):
    """A runtime does not work on this machine, or gives other numbers: another must be taken."""


def one_line(error: BaseException, most: int | None = None) -> str:
    """The message of an error in one line, for another message.

    most   characters of it; None: all
    """
    return " ".join(str(error).split())[:most]
