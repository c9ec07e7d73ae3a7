"""What happens to the bundle's files while a server runs changes no answer."""

import os
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest

from serving.errors import BundleError
from serving.text_model.rows_on_disk import MANY, RowsOnDisk
from tests.servers import running
from tests.sounds import encoded, harmonics

SOUND = encoded(harmonics(16_000, 1.0))


@pytest.mark.parametrize("change", ["truncate", "overwrite"])
def test_a_bundle_that_is_truncated_or_overwritten_while_it_is_served_changes_no_answer(tmp_path, change):
    folder = Path(shutil.copytree("demo/model-from-scratch", tmp_path / "bundle"))
    with running(folder, tmp_path / "log") as server:

        def ask() -> list[object]:
            """Everything that reads a bundle: its model, its classes, typed labels and their descriptions."""
            answers = [
                httpx.post(f"{server.address}/v1/classify", params=query, content=SOUND, timeout=120).json()["ranking"]
                for query in ({}, {"labels": "a squeaking hinge,chainsaw,dog"})
            ]
            return [*answers, httpx.get(f"{server.address}/readyz").json()]

        before = ask()
        for path in filter(Path.is_file, folder.rglob("*")):
            if change == "truncate":
                os.truncate(path, 0)
            else:
                path.write_bytes(np.full(path.stat().st_size, 0xFF, np.uint8).tobytes())  # NaN, read as float32
        assert ask() == before
        assert server.process.poll() is None


@pytest.mark.parametrize("times", [1, MANY])
def test_a_truncated_table_of_words_is_refused_and_a_replaced_one_changes_nothing(tmp_path, times):
    """Mapped into memory, the first would end the process with SIGBUS."""
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    for order in "CF":
        path = tmp_path / f"{order}.npy"
        np.save(path, np.asarray(table, order=order))
        rows = RowsOnDisk(path)
        np.testing.assert_array_equal(rows([2, 0] * times), table[[2, 0] * times])
        np.save(tmp_path / "other.npy", table + 1)
        kept = path.rename(tmp_path / "kept")
        (tmp_path / "other.npy").rename(path)
        np.testing.assert_array_equal(rows([3] * times), table[[3] * times])
        os.truncate(kept, 130)
        with pytest.raises(BundleError, match="truncated"):
            rows([3] * times)
