"""List the sounds of a library whose labels would teach a bundle most.

    python -m serving.embed bundles/first recordings/ --per window --out library.parquet
    python -m serving.review library.parquet --bundle bundles/first --labels "frog, owl, rain" --out review.csv

Listen to the sounds, write their labels into the column `label`, and give the file to `python -m serving.teach`. Rows
that stay without a label are left out there.
"""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from serving.command_line import run_command, say
from serving.embedder import Embedder
from serving.errors import DataError, UsageError
from serving.files.atomic_write import write_atomically
from serving.files.csv_cells import safe_cell
from serving.files.csv_rows import read_rows
from serving.files.new_folder import make_folder_of
from serving.labelling.label_source import LabelSource, choose_labels, read_label_source
from serving.teaching.embedded_library import EmbeddedLibrary, read_embedded_library
from serving.teaching.review_choice import choose_rows
from serving.teaching.stretches import Stretches
from serving.teaching.taught_record import read_record
from serving.trust_option import Trusted
from serving.zeroshot import ZeroShot
from serving.zeroshot.label_text import join_labels

COLUMNS = ("file", "start", "end", "label", "guess", "probability")


@dataclass(frozen=True)
class ReviewOptions:
    """List the sounds of a library whose labels would teach a bundle most, for a person to label."""

    library: Annotated[Path, tyro.conf.Positional]
    """Parquet file that `serving.embed` wrote, with --per window to review windows"""
    bundle: Path
    """the bundle's folder"""
    labels: str | None = None
    """what the sounds may be, as for `serving.label`; default: the bundle's classes"""
    top: int = 20
    """number of sounds to list"""
    out: Path | None = None
    """CSV file to write, with the columns file, start, end, label (empty), guess and probability; default: stdout"""
    reviewed: tuple[Path, ...] = ()
    """lists that were reviewed before: their sounds, also those without a label, are not asked about again"""
    recordings: Path | None = None
    """folder of the recordings; default: the one that was embedded"""
    trust: Trusted = ()
    overwrite: bool = False
    """replace an existing --out"""


def review(options: ReviewOptions) -> dict[str, Any]:
    """Choose the sounds, write the list, and return the result that is printed as JSON."""
    if options.top < 1:
        raise UsageError(f"--top: got {options.top}; wanted 1 or more")
    if options.out is not None and options.out.exists() and not options.overwrite:
        raise UsageError(f"{options.out}: exists already; give another --out, or --overwrite to replace it")
    embedder = Embedder.load(options.bundle, trusted=options.trust)
    labels = choose_labels(embedder, _known(embedder, read_label_source(options.labels, embedder.zeroshot.class_names)))
    if len(labels.class_names) == 1:
        say("warning: one label alone is the guess for every sound; add labels that could be meant instead")
    library = read_embedded_library(options.library, embedder.manifest.embedding_space, options.recordings)
    taught = {key for each in read_record(embedder.bundle).values() for key in each.keys}
    is_known = library.among(taught) | library.listed(read_stretches(options.reviewed))
    left = np.flatnonzero(~is_known)
    if not len(left):
        raise UsageError(f"{options.library}: all its rows were taught or reviewed; give another library")
    if options.out is not None:
        make_folder_of(options.out, "--out")
    chosen = choose_rows(labels, library.embeddings[left], options.top, library.embeddings[is_known])
    rows = left[chosen].tolist()
    text = list_text(library, labels, rows)
    if options.out is None:
        sys.stdout.write(text)
    else:
        try:
            write_atomically(options.out, lambda path: path.write_text(text, encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"--out: {options.out} cannot be written ({error.strerror}); give another") from error
        say(f"listen to the {len(rows)} sounds of {options.out}, and write their labels into its column label")
        say(f"next: python -m serving.teach {options.bundle} {options.out} --out BUNDLE")
    out = str(options.out) if options.out else None
    return {"out": out, "rows": len(rows), "library_rows": len(library), "labels": len(labels.class_names)}


def _known(embedder: Embedder, source: LabelSource) -> LabelSource:
    """The labels without those of which the text model knows no word, which are told, unless there are no others."""
    if source.labels is None or not embedder.labels.knows_text:
        return source
    known = [
        label
        for label in source.labels
        if embedder.zeroshot.has(label) or label in source.descriptions or embedder.labels.understands(label)
    ]
    unknown = [label for label in source.labels if label not in known]
    if not known or not unknown:
        return source
    say(f"warning: {join_labels(unknown)}: no word of it is known, so it is no guess; write it where you hear it")
    return replace(source, labels=known)


def read_stretches(lists: Sequence[Path]) -> Stretches:
    """The stretches of files that earlier lists have. UsageError: one is no such list."""
    found: list[tuple[str, float, float]] = []
    for path in lists:
        try:
            (_, header), *rows = read_rows(path.read_text(encoding="utf-8-sig"), str(path)) or [(1, [])]
            if not {"file", "start", "end"} <= set(header):
                raise ValueError(f"it has the columns {', '.join(header) or 'none'}; wanted file, start and end")
            file, start, end = map(header.index, ("file", "start", "end"))
            found += [(row[file], float(row[start]), float(row[end])) for _, row in rows]
        except (OSError, ValueError, IndexError, DataError) as error:
            raise UsageError(f"--reviewed: {path}: is no list of this command ({error}); give its CSV files") from error
    return Stretches(found)


def list_text(library: EmbeddedLibrary, labels: ZeroShot, rows: Sequence[int]) -> str:
    """The list as CSV, with absolute paths, in the order of the review."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for row in rows:
        label, probability = labels.rank(library.embeddings[row])[0]
        file = library.file(row)
        times = (f"{library.starts_s[row]:.6f}", f"{library.ends_s[row]:.6f}")
        lines.writerow([safe_cell(file), *times, "", safe_cell(label), round(probability, 4)])
    return text.getvalue()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    return run_command(ReviewOptions, review, "python -m serving.review", argv)


if __name__ == "__main__":
    raise SystemExit(main())
