"""The embeddings of windows in a Parquet file -> recordings with their labels."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from serving.audio.recorded_at import RecordedAt
from serving.bulk.finished_rows import by_path
from serving.bulk.parquet_rows import GROUP_ROWS
from serving.labelling.detections import Detection, LabelRules, join_windows, name_windows
from serving.labelling.table_formats import LabelledRecording
from serving.zeroshot import ZeroShot

FACTS = ("recording_s", "recorded_at", "recorded_from", "warning")
COLUMNS = ("path", "start_s", "end_s", "level_dbfs", "embedding", *FACTS)


def read_recordings(path: Path, folder: Path, labels: ZeroShot, rules: LabelRules) -> Iterator[LabelledRecording]:
    """Label the windows of each recording, in the order of the file.

    path    of a file that `serving.embed --per window` wrote
    folder  of the recordings
    Of a long recording only the labels are in memory, and about GROUP_ROWS windows.
    """
    with parquet.ParquetFile(path) as file:
        pieces = by_path(file.iter_batches(GROUP_ROWS, columns=list(COLUMNS)))
        for name, batches in itertools.groupby(pieces, key=lambda piece: piece[0]):
            found: list[Detection] = []
            facts = {}
            for _, batch in batches:
                facts = facts or {key: batch[key][0].as_py() for key in FACTS}
                found += _name(batch, labels, rules)
            yield LabelledRecording(
                path=name,
                file=folder / name,
                duration_s=facts["recording_s"],
                recorded_at=_recorded_at(facts["recorded_at"], facts["recorded_from"]),
                warning=facts["warning"],
                detections=join_windows(found) if rules.merge else found,
            )


def _name(batch: pyarrow.RecordBatch, labels: ZeroShot, rules: LabelRules) -> list[Detection]:
    starts, ends, levels = (batch[name].to_numpy() for name in ("start_s", "end_s", "level_dbfs"))
    rows = batch["embedding"].flatten().to_numpy().reshape(batch.num_rows, -1)
    return name_windows(labels, rules, starts, ends, levels, np.ascontiguousarray(rows))


def _recorded_at(text: str | None, source: str | None) -> RecordedAt | None:
    """The inverse of `RecordedAt.after(0)`."""
    if text is None or source is None:
        return None
    at = datetime.fromisoformat(text)
    return RecordedAt(at.astimezone(UTC) if at.tzinfo else at, source)
