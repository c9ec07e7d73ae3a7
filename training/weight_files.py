"""Files of published weights -> tensors by name: .safetensors, .pt and .pth, Keras's .h5, .tflite. No code is run."""

import pickle
import re
import struct
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from serving.errors import UsageError
from training.google_yamnet import read_keras, read_tflite

# What torch.load raises on bytes that are no weights: found by cutting and flipping bytes of real files.
UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name; those of Google's own files under torch_audioset's names.

    errors   UsageError: no such file, another kind of file, a damaged one, or one that needs code to open
    """
    suffix = path.suffix.lower()
    if suffix not in LOADERS:
        *some, last = LOADERS
        raise UsageError(f"{path}: got {suffix or 'no suffix'}; wanted a {', '.join(some)} or {last} file of weights")
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise UsageError(f"{path}: got {got}; wanted a file of published weights of YAMNet or VGGish")
    try:
        content = LOADERS[suffix](path)
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path}: not a readable safetensors file ({reason}); download it again") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    entries = content if isinstance(content, dict) else {}
    tensors = {str(name): value for name, value in entries.items() if isinstance(value, Tensor)}
    if not tensors:
        got = f"a dict of {shown(entries)}" if entries else f"a {type(content).__name__}"
        raise UsageError(f"{path}: got {got}; wanted tensors by name: save the module's state_dict() alone")
    return tensors


def _load_pt(path: Path) -> Any:
    """What a .pt file holds. Whatever would need code to open is refused by torch before any of it runs."""
    try:
        with warnings.catch_warnings():  # of unknown pickle protocols, in files that are refused anyway
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        # torch's message is a page, and advises to run the code.
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UsageError(
                f"{path}: got {code[1]}, which runs code when opened, so the file was not opened; "
                "wanted tensors alone: save the module's state_dict() as .safetensors"
            ) from error
        raise UsageError(
            f"{path}: not a readable .pt file ({type(error).__name__}); "
            "wanted what torch.save(module.state_dict(), path) writes: download it again, or give .safetensors"
        ) from error


def _load_google(path: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What Google's file holds of YAMNet."""
    wanted = "wanted Google's YAMNet: download it again"
    try:
        tensors = read(path)
    except PermissionError:
        raise
    except (OSError, *UNREADABLE) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{path}: not a readable {path.suffix} file ({reason or type(error).__name__}); {wanted}"
        ) from error
    if not tensors:
        raise UsageError(f"{path}: has no layer that is named as one of YAMNet's; {wanted}")
    return tensors


LOADERS: dict[str, Callable[[Path], Any]] = {
    ".safetensors": load_file,
    ".pt": _load_pt,
    ".pth": _load_pt,
    ".h5": lambda path: _load_google(path, read_keras),
    ".tflite": lambda path: _load_google(path, read_tflite),
}


def shown(names: Iterable[object], most: int = 4) -> str:
    """The first names, each on one line whatever the file calls them."""
    listed = [ascii(name)[1:-1][:60] if isinstance(name, str) else type(name).__name__ for name in names]
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
