"""Which recordings of a folder a job embeds: all, or for an update those that are new or have changed."""

import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

from serving.bulk.file_facts import FileStamp, confirmed
from serving.bulk.finished_rows import FinishedRows
from serving.bulk.recordings_folder import FolderEmbedder, audio_files

# In the job's folder, so that an update that goes on knows it too: one recording a line, [path, size, times, SHA-256].
CONFIRMED_FILE = "confirmed.jsonl"


def files_to_embed(
    source: FolderEmbedder, finished: FinishedRows | None, job: Path, own: str
) -> Iterator[tuple[str, int]]:
    """Yield the name and the size of each file that has no rows yet, or has changed since it got them.

    finished   what an update keeps; None: no file has rows
    job        the job's folder: it gets the new stamps of files that were copied or touched, see `confirmed_stamps`
    own        what the names of the job's own temporary folders begin with
    """
    known = finished.stamps() if finished else {}
    with (job / CONFIRMED_FILE).open("w", encoding="utf-8") as lines:
        for name in audio_files(source.folder, own):
            was = known.get(name)
            now = confirmed(source.folder / name, was, finished.begun_ns) if finished and was else None
            if now is None:
                yield name, source.size(name)
            elif now != was:
                lines.write(json.dumps([name, *astuple(now)]) + "\n")


def confirmed_stamps(job: Path) -> dict[str, FileStamp]:
    """The new stamps of recordings whose content is that of their rows, though their times are not, by their paths."""
    try:
        with (job / CONFIRMED_FILE).open(encoding="utf-8") as lines:
            return {name: FileStamp(*stamp) for name, *stamp in map(json.loads, lines)}
    except FileNotFoundError:  # an earlier version began the job
        return {}
