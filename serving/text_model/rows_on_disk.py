"""Rows of a table in an .npy file, read one by one from a file that stays open."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import BundleError
from serving.files.npz import read_npy_header

MANY = 1_000  # rows of a table that is stored by columns: whole columns are read for so many, single numbers for fewer


class RowsOnDisk:
    """A callable: row numbers -> those rows of a .npy file [n, size]. Safe to use from several threads.

    A file that is replaced by another one changes nothing, because the first one stays open. The file is not mapped
    into memory: reading a mapped file that was truncated ends the process.
    errors   BundleError: not such a file; at a call: the file was truncated
    """

    def __init__(self, path: Path):
        self._path = path
        try:
            self._file = path.open("rb", buffering=0)
            shape, self._by_column, self._dtype = read_npy_header(self._file)
        except (OSError, ValueError) as error:
            raise BundleError(f"{path}: cannot be read as a table ({error}); install its package again") from error
        if len(shape) != 2 or self._dtype.hasobject:
            raise BundleError(f"{path}: is not a table of numbers; install its package again")
        self._shape = shape
        self._start = self._file.tell()

    def __call__(self, rows: list[int]) -> NDArray[np.generic]:
        """[n_rows, size] in the dtype of the file."""
        n_rows, size = self._shape
        item = self._dtype.itemsize
        if self._by_column and len(rows) >= MANY:
            return np.stack([self._read([(n_rows * item, i * n_rows * item)])[rows] for i in range(size)], axis=1)
        if self._by_column:  # each number of a row is somewhere else
            places = [(item, (column * n_rows + row) * item) for row in rows for column in range(size)]
        else:
            places = [(size * item, row * size * item) for row in rows]
        return self._read(places).reshape(len(rows), size)

    def _read(self, places: list[tuple[int, int]]) -> NDArray[np.generic]:
        """The numbers of these places, each a number of bytes and the first one's position after the header."""
        read = b"".join(os.pread(self._file.fileno(), n_bytes, self._start + place) for n_bytes, place in places)
        if len(read) != sum(n_bytes for n_bytes, _ in places):
            raise BundleError(f"{self._path}: was truncated; install its package again")
        return np.frombuffer(read, self._dtype)
