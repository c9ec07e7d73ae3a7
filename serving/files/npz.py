"""Read .npz files that may come from strangers: nothing is inflated before its size is known to be small."""

import io
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from serving.errors import BundleError, one_line

MAX_BYTES = 400_000_000  # of all arrays of a file; GloVe with all its 400 000 words has 30 MB
WAY_OUT = "export the bundle again"


@dataclass(frozen=True)
class ArrayForm:
    """What an array must be.

    kinds     characters of numpy.dtype.kind that are allowed: f float, b bool, i integer, u unsigned integer, U text
    shape     a number fixes a size; a name stands for any size, the same one wherever it is used in the file
    optional  the file may lack it
    """

    kinds: str
    shape: tuple[int | str, ...]
    optional: bool = False


def read_npz(content: bytes, name: str, forms: Mapping[str, ArrayForm]) -> dict[str, NDArray]:
    """Read the arrays of an .npz file.

    content  of the file
    name     of the file, for messages
    errors   BundleError: it is no such file, lacks an array or has another one, or an array is pickled, too large, of
             another type or shape, or not finite
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            _check_members(archive, members, forms)
            arrays = {key: _read_array(archive, member) for key, member in members.items()}
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, OSError, RuntimeError) as error:
        raise BundleError(f"{name}: cannot be read as .npz ({one_line(error, 300)}); {WAY_OUT}") from error
    except Exception as error:  # zlib.error and others that a damaged archive can raise
        raise BundleError(f"{name}: cannot be read as .npz ({type(error).__name__}); {WAY_OUT}") from error
    sizes: dict[str, int] = {}
    for key, array in arrays.items():
        if reason := _mismatch(array, forms[key], sizes):
            raise BundleError(f"{name}: {key} {reason}; {WAY_OUT}")
    return arrays


def _check_members(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], forms: Mapping[str, ArrayForm]
) -> None:
    missing = [key for key, form in forms.items() if key not in members and not form.optional]
    if missing or members.keys() - forms.keys() or len(members) != len(archive.infolist()):
        have = ", ".join(members)[:200] or "nothing"
        raise ValueError(f"it has {have!r}, wanted {', '.join(forms)}")
    total = sum(member.file_size for member in members.values())
    if total > MAX_BYTES:
        raise ValueError(f"its arrays take {total} bytes, wanted at most {MAX_BYTES}")


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape of a .npy file, whether it is stored by columns, and its dtype. ValueError: it is no such file."""
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"unknown version {version}")
    return read_header[version](file)


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray:
    with archive.open(member) as file:
        shape, by_column, dtype = read_npy_header(file)
        if dtype.hasobject or dtype.fields is not None:
            raise ValueError(f"{member.filename}: has {dtype}, not numbers or texts")
        data = file.read()
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{member.filename}: has {len(data)} bytes for {list(shape)} {dtype}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if by_column else "C").copy(order="C")


def _mismatch(array: NDArray, form: ArrayForm, sizes: dict[str, int]) -> str | None:
    """What is wrong with an array; None: nothing. sizes: of the names in the shapes that are known so far."""
    fits = array.dtype.kind in form.kinds and array.ndim == len(form.shape)
    for wanted, got in zip(form.shape, array.shape, strict=False):
        fits = fits and got == (wanted if isinstance(wanted, int) else sizes.setdefault(wanted, got))
    if not fits:
        wanted = ", ".join(str(sizes.get(size, size)) if isinstance(size, str) else str(size) for size in form.shape)
        return f"is {array.dtype} {list(array.shape)}, wanted [{wanted}] of kind {'/'.join(form.kinds)}"
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return "has values that are not finite"
    return None
