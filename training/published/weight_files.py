"""Read the tensors of a weights file by name: .safetensors, .pt, .pth, Keras's .h5, .tflite, or a bundle's .onnx.

No reader executes code from the file.
"""

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

from serving.errors import UsageError, one_line
from training.published.bundle_weights import read_bundle_model
from training.published.google_yamnet import read_keras, read_tflite

# What torch.load raises for damaged files; found by truncating real files and flipping their bytes.
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
    """The tensors of a weights file by name. Tensors of Google's files get torch_audioset's names.

    errors   UsageError: the file is missing, damaged or of another type, or opening it would execute code
    """
    suffix = path.suffix.lower()
    if suffix not in LOADERS:
        *first, last = LOADERS
        raise UsageError(f"{path}: got {suffix or 'no suffix'}; wanted a {', '.join(first)} or {last} file of weights")
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise UsageError(f"{path}: got {got}; wanted a file of published weights of YAMNet or VGGish")
    try:
        content = LOADERS[suffix](path)
    except SafetensorError as error:
        reason = one_line(error)
        raise UsageError(f"{path}: not a readable safetensors file ({reason}); download it again") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); check its permissions") from error
    entries = content if isinstance(content, dict) else {}
    tensors = {str(name): value for name, value in entries.items() if isinstance(value, Tensor)}
    if not tensors:
        got = f"a dict of {list_names(entries)}" if entries else f"a {type(content).__name__}"
        raise UsageError(f"{path}: got {got}; wanted tensors by name: save the module's state_dict() alone")
    return tensors


def _load_pt(path: Path) -> Any:
    """The content of a .pt file. torch refuses a file that would execute code, before it executes any."""
    try:
        with warnings.catch_warnings():  # about unknown pickle protocols, in files that are refused anyway
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        # torch's own message fills a page and advises to run the code.
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UsageError(
                f"{path}: got {code[1]}, which runs code when opened, so the file was not opened; "
                "wanted only tensors: save the module's state_dict() as .safetensors"
            ) from error
        raise UsageError(
            f"{path}: not a readable .pt file ({type(error).__name__}); "
            "wanted a file written by torch.save(module.state_dict(), path): download it again, or give .safetensors"
        ) from error


def _load_google(path: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of a file with Google's YAMNet. UsageError: it is damaged, or holds another network."""
    wanted = "wanted Google's YAMNet: " + ("export it again" if path.suffix.lower() == ".onnx" else "download it again")
    try:
        tensors = read(path)
    except PermissionError:
        raise
    except (OSError, *UNREADABLE) as error:
        reason = one_line(error, 200)
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
    ".onnx": lambda path: _load_google(path, read_bundle_model),
}


def list_names(names: Iterable[object], most: int = 4) -> str:
    """The first names, separated by commas. Control characters are escaped, so the text stays on one line."""
    listed = [ascii(name)[1:-1][:60] if isinstance(name, str) else type(name).__name__ for name in names]
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")
