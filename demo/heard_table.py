"""What is heard in a recording as a table for another program, in the formats of `serving.label`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from demo.embedded_recording import EmbeddedRecording
from demo.heard import Heard
from demo.labels.ranked_labels import RankedLabels
from serving.audio.recorded_at import recorded_at
from serving.embedder import Embedder
from serving.labelling.detections import Detection
from serving.labelling.table_files import SUFFIXES
from serving.labelling.table_formats import LabelledRecording, open_table

TABLES = {"CSV": "csv", "Raven": "raven", "Audacity": "audacity"}  # name on the page -> format


def write_table(
    form: str, embedder: Embedder, embedded: EmbeddedRecording, ranked: RankedLabels, stretches: Sequence[Heard]
) -> tuple[str, str]:
    """The file name and the text of a table of `stretches`, which `ranked` gave. form: one of TABLES' values."""
    path = Path(embedded.path)
    recording = LabelledRecording(
        path=path.name,
        file=Path(path.name),  # the folder is the demo's own, and means nothing to the visitor
        duration_s=embedded.seconds,
        recorded_at=recorded_at(path),
        warning="; ".join(embedded.warnings),
        detections=_detections(embedded, ranked, stretches),
    )
    front_end = embedder.manifest.front_end
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "table"
        with open_table(form, file, float(front_end["low_hz"]), float(front_end["high_hz"]), several=False) as table:
            table.write(recording)
        return path.stem + SUFFIXES[form], file.read_text(encoding="utf-8")


def _detections(embedded: EmbeddedRecording, ranked: RankedLabels, stretches: Sequence[Heard]) -> list[Detection]:
    middles = (embedded.starts_s + embedded.ends_s) / 2
    found = []
    for stretch in stretches:
        first, end = middles.searchsorted([stretch.start_s, stretch.end_s])
        similarity = float(ranked.similar_by_window[first:end].max())
        found.append(
            Detection(stretch.start_s, stretch.end_s, stretch.label, stretch.probability, similarity, int(end - first))
        )
    return found
