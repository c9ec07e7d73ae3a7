"""Embed every recording of a folder into one Parquet file.

    python -m serving.embed bundles/first recordings/ --out embeddings.parquet

An interrupted run continues where it stopped when the same command is given again. Files that cannot be used are
listed with the reasons in embeddings.errors.csv; they do not stop the run.
"""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from serving.bundle import Bundle, open_bundle
from serving.cluster import work_on_ray
from serving.command import progress_console, run_command, say, show
from serving.cores import usable_cores
from serving.errors import UsageError
from serving.folder import FolderEmbedder, audio_files
from serving.job import Job, open_job
from serving.new_folder import refuse_unwritable
from serving.rows import FOLDER, Rows, merge_parts, write_part

FILES_PER_PART = 256  # a run that is killed loses the work on at most this many


@dataclass(frozen=True)
class Options:
    """Embed every recording of a folder, and of the folders in it, into one Parquet file."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """the bundle's folder"""
    folder: Annotated[Path, tyro.conf.Positional]
    """where the recordings are: at any depth, links to folders not followed; WAV, FLAC, OGG, Opus, MP3, AIFF, W64, AU
    and CAF files, and with the extra `formats` M4A, AAC, MP4, WebM, WMA and others"""
    out: Path
    """the Parquet file to write; X.parquet.parts beside it holds the unfinished job"""
    per: Literal["clip", "window"] = "clip"
    """one row for each recording, or one for each window of it"""
    backend: str = "auto"
    """auto, onnxruntime, openvino or tensorrt"""
    precision: str = "fp32"
    """of the model: fp32, fp16 or int8, as far as the bundle has them; bf16: fp32 with OpenVINO in bfloat16"""
    threads: int | None = None
    """CPU threads that decode, and as many for the model; with --ray local, workers; default: the physical cores"""
    max_seconds: float = 3600
    """longer recordings are listed as errors, in seconds: one takes up to 2 GB an hour while it is decoded"""
    ray: str | None = None
    """run on Ray: local, or HOST:PORT of a cluster with this machine in it, where all see the same folders"""
    overwrite: bool = False
    """replace the output, and forget an unfinished job"""


def embed(options: Options) -> dict[str, Any]:
    """Do the job and return what is printed as JSON."""
    started = time.perf_counter()
    if not options.out.name or not _is_text(options.out):
        raise UsageError(f"--out: got {str(options.out)!r}; wanted the name of a Parquet file")
    errors = options.out.with_name(f"{options.out.stem}.errors.csv")
    parts = options.out.with_name(f"{options.out.name}.parts")
    check(options, (options.out, errors), parts)
    bundle = open_bundle(options.bundle)
    threads = options.threads or usable_cores()
    rows = Rows(options.per, bundle.manifest.window, bundle.manifest.embedding_size, bundle.manifest.embedding_space)
    source = FolderEmbedder(
        options.folder.resolve(),
        rows,
        options.max_seconds,
        options.bundle.resolve(),
        options.backend,
        options.precision,
        threads,
    )
    if options.ray is None:
        say(f"embedding with {source.embedder.backend}, {options.precision}, {threads} threads")
    try:
        with open_job(
            parts, begun_with(options, bundle), lambda: audio_files(options.folder), FILES_PER_PART, options.overwrite
        ) as job:
            if job.done:
                say(f"continuing: {job.n_files_done} of {job.n_files} files are done")
            with _progress() as progress:
                bar = progress.add_task("embedding", total=job.n_files, completed=job.n_files_done)
                work = _work_here(job, source) if options.ray is None else work_on_ray(job, source, options.ray)
                for n_files in work:
                    progress.advance(bar, n_files)
            n_rows, n_errors, n_warned = _finish(job, source, options.out, errors)
    except OSError as error:
        raise UsageError(
            f"{options.out}: cannot be written ({error.strerror or error}); what is done is kept: mend it and give the "
            "same command again"
        ) from error
    seconds = time.perf_counter() - started
    result = {
        "out": str(options.out),
        "rows": n_rows,
        "files": job.n_files,
        "errors": n_errors,
        "errors_file": str(errors),
        "warnings": n_warned,
        "files_done_before": job.n_files_done,
        "seconds": round(seconds, 3),
        "files_per_s": round((job.n_files - job.n_files_done) / seconds, 2),
        "per": options.per,
        "embedding_space": bundle.manifest.embedding_space,
    }
    _report(result)
    return result


def check(options: Options, outputs: Iterable[Path], parts: Path) -> None:
    """UsageError where a flag is out of its range, or something that is there would be replaced unasked."""
    if not 0 < options.max_seconds < float("inf"):
        raise UsageError(f"--max-seconds: got {options.max_seconds:g}; wanted a positive number")
    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads: got {options.threads}; wanted 1 or more, or none for all cores")
    if not options.folder.is_dir():
        raise UsageError(f"{options.folder}: no such folder; give the one with the recordings")
    for path in outputs:
        # An unfinished job may replace what was there when it was begun.
        if path.is_dir() or (path.exists() and not parts.exists() and not options.overwrite):
            raise UsageError(f"{path}: exists already; give another --out, or --overwrite to replace it")
    refuse_unwritable(options.out.parent, "--out")


def _is_text(path: Path) -> bool:
    """Whether the path is UTF-8, as Arrow wants it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def begun_with(options: Options, bundle: Bundle) -> dict[str, Any]:
    """All that the rows depend on."""
    return {
        "embedding_space": bundle.manifest.embedding_space,
        "model": bundle.manifest.files[bundle.model(options.precision).name].sha256,
        "precision": options.precision,
        "backend": options.backend,
        "per": options.per,
        "folder": str(options.folder.resolve()),
        "max_seconds": options.max_seconds,
    }


def _work_here(job: Job, source: FolderEmbedder) -> Iterator[int]:
    """Finish all parts in this process; tells how many files each has."""
    names = (name for _, names in job.missing() for name in names)
    with closing(source.embed(names)) as outcomes:  # one stream: decoding goes on while a part is written
        for part, names_of_part in job.missing():
            mine = islice(outcomes, len(names_of_part))
            job.save(part, lambda path, mine=mine: write_part(path, source.rows, mine))
            yield len(names_of_part)


def _finish(job: Job, source: FolderEmbedder, out: Path, errors: Path) -> tuple[int, int, int]:
    """Join the parts, and put the two files in their places whole. Returns how many rows, errors and warnings."""
    new_rows, new_errors = job.folder / "rows.new", job.folder / "errors.new"
    schema = source.rows.schema.with_metadata({FOLDER: os.fsencode(source.folder)})
    counts = merge_parts(map(job.path, range(job.n_parts)), new_rows, new_errors, schema)
    new_errors.rename(errors)
    new_rows.rename(out)
    job.remove()
    return counts


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=progress_console, transient=True)


def _report(result: dict[str, Any]) -> None:
    table = Table(show_header=False)
    for name in ("rows", "files", "errors", "warnings", "seconds", "files_per_s"):
        table.add_row(name.replace("_", " "), str(result[name]))
    show(table, result["out"])
    if result["errors"]:
        say(f"{result['errors']} files could not be used: {result['errors_file']} says why")
    if result["warnings"]:
        say(f"{result['warnings']} files were read only in part: the column `warning` says what is missing of each")


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    return run_command(Options, embed, "python -m serving.embed", argv)


if __name__ == "__main__":
    raise SystemExit(main())
