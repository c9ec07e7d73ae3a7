"""Rows like real embeddings, as many as are wanted: each lies between a real one and one of its nearest others."""

from pathlib import Path

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import parquet

from serving.bulk.parquet_rows import GROUP_ROWS
from serving.zeroshot import unit_rows

NEIGHBOURS = 10  # of a real embedding, between which and it a row may lie
NOISE = 0.5  # length of the noise, in distances between the two
ROWS_A_FILE = 600  # windows of a recording of ten minutes


class SyntheticRows:
    """Draws rows around real embeddings [n, size] float32."""

    def __init__(self, real: NDArray[np.float32], rng: np.random.Generator):
        self._real, self._rng = real, rng
        unit = unit_rows(real)
        similar = unit @ unit.T
        np.fill_diagonal(similar, -np.inf)
        count = min(NEIGHBOURS, len(real) - 1)
        self._near = np.argpartition(-similar, count - 1, axis=1)[:, :count]

    def draw(self, n: int) -> NDArray[np.float32]:
        """[n, size] float32."""
        rng = self._rng
        first = rng.integers(len(self._real), size=n)
        second = self._near[first, rng.integers(self._near.shape[1], size=n)]
        step = self._real[second] - self._real[first]
        noise = rng.standard_normal(step.shape, np.float32) / np.float32(np.sqrt(step.shape[1]))
        length = np.linalg.norm(step, axis=1, keepdims=True)
        return self._real[first] + rng.random((n, 1), np.float32) * step + NOISE * length * noise


def write_sounds(path: Path, synthetic: SyntheticRows, n_rows: int, space: str, size: int) -> None:
    """Write a Parquet file as `serving.embed` does, with the columns that an index needs."""
    schema = pyarrow.schema(
        [
            ("path", pyarrow.string()),
            ("start_s", pyarrow.float64()),
            ("duration_s", pyarrow.float64()),
            ("embedding", pyarrow.list_(pyarrow.float32(), size)),
            ("embedding_space", pyarrow.string()),
        ]
    )
    with parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, n_rows, GROUP_ROWS):
            numbers = np.arange(first, min(n_rows, first + GROUP_ROWS))
            rows = synthetic.draw(len(numbers))
            columns = [
                pyarrow.array([f"site-{i // 60_000:03d}/{i // ROWS_A_FILE:08d}.flac" for i in numbers.tolist()]),
                pyarrow.array(0.96 * (numbers % ROWS_A_FILE)),
                pyarrow.array(np.full(len(numbers), 0.96)),
                pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), size),
                pyarrow.array([space] * len(numbers)),
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
