"""The embeddings of a finished file, and how the folder of the recordings has changed since."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from serving.audio.file_names import walk_recordings
from serving.bulk.embed_options import EmbedOptions
from serving.bulk.file_facts import FileStamp
from serving.bulk.finished_rows import FinishedRows
from serving.command_line import say
from serving.files.csv_cells import safe_cell


@dataclass(frozen=True)
class KeptEmbeddings:
    """Numbers of recordings.

    kept               have embeddings in the file
    errors, warnings   could not be used, or were read only in part, when the file was made; None: the CSV file of
                       errors is gone
    not_embedded       of the folder, that are neither in the file nor among the errors
    changed            have another size or time than when they were embedded
    missing            of the file, that are no longer in the folder
    """

    kept: int
    errors: int | None
    warnings: int | None
    not_embedded: int
    changed: int
    missing: int


def take_embeddings(options: EmbedOptions, rows: FinishedRows) -> KeptEmbeddings:
    """Compare the finished file with the folder, and say what is taken and what differs."""
    say(f"taking the embeddings of {options.out}")
    kept = _compared(options, rows)
    _say_changes(options, kept)
    return kept


def take_unchanged(options: EmbedOptions, rows: FinishedRows) -> KeptEmbeddings | None:
    """The embeddings of the finished file, if embedding anew would give the same; otherwise None.

    That is not known of recordings that could not be used: their cause may be gone.
    """
    kept = _compared(options, rows)
    if kept.errors != 0 or kept.not_embedded or kept.changed or kept.missing:
        return None
    say(f"taking the embeddings of {options.out}: no recording has changed since")
    return kept


def _compared(options: EmbedOptions, rows: FinishedRows) -> KeptEmbeddings:
    embedded = _listed_errors(options.errors)
    known = rows.stamps()
    not_embedded = changed = found = 0
    for name in walk_recordings(options.folder, skipped=[]):
        if name in known:
            found += 1
            changed += _differs(options.folder / name, known[name])
        elif embedded.get(_cell(name)) != "no":
            not_embedded += 1
    counts = Counter(embedded.values())
    has_list = options.errors.exists()
    return KeptEmbeddings(
        kept=len(known),
        errors=counts["no"] if has_list else None,
        warnings=counts["in part"] if has_list else None,
        not_embedded=not_embedded,
        changed=changed,
        missing=len(known) - found,
    )


def _listed_errors(path: Path) -> dict[str, str]:
    """The cells path -> embedded of the CSV file of errors; empty if it cannot be read."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["path"]: row["embedded"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error):
        return {}


def _cell(name: str) -> str:
    """A name as it stands in the CSV file of errors."""
    return str(safe_cell(name.encode("utf-8", "backslashreplace").decode()))


def _differs(path: Path, stamp: FileStamp) -> bool:
    """Whether size or time are others. The content is not read, so a file that was only touched differs too."""
    try:
        now = path.stat()
    except (OSError, ValueError):
        return True
    return (now.st_size, now.st_mtime_ns) != (stamp.size, stamp.mtime_ns)


def _say_changes(options: EmbedOptions, kept: KeptEmbeddings) -> None:
    folder, file = options.folder, options.out.name
    parts = []
    if n := kept.not_embedded:
        parts.append(f"{_recordings(n)} of {folder} {'is' if n == 1 else 'are'} not in {file}")
    if n := kept.changed:
        parts.append(f"{_recordings(n)} of {folder} {'has' if n == 1 else 'have'} another size or time than in {file}")
    if n := kept.missing:
        parts.append(f"{_recordings(n)} of {file} {'is' if n == 1 else 'are'} no longer in {folder}")
    if not parts:
        return
    number = kept.not_embedded + kept.changed
    if number and options.out_flag == "--out":  # the hidden file of a run that could not write its table
        parts[-1] += "; --overwrite begins anew"
    elif number:
        verb = "renews" if not kept.not_embedded else "adds or renews" if kept.changed else "adds"
        parts[-1] += f"; --update {verb} {'it' if number == 1 else 'them'}"
    say(", ".join(parts))


def _recordings(number: int) -> str:
    return f"{number} recording{'' if number == 1 else 's'}"
