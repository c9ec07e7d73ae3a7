"""The bulk job: embed every recording of a folder into one Parquet file, in parts that survive an interruption."""

import os
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from serving.atomic_write import move_atomically
from serving.bulk.embed_options import EmbedOptions, check_options
from serving.bulk.parquet_rows import FOLDER, RowMaker, merge_parts, write_part
from serving.bulk.ray_cluster import work_on_ray
from serving.bulk.recordings_folder import FolderEmbedder, audio_files
from serving.bulk.resumable_job import ResumableJob, open_job
from serving.bundle import Bundle, open_bundle
from serving.command_line import progress_console, say, show
from serving.cores import usable_cores
from serving.errors import UsageError

FILES_PER_PART = 256  # a killed run loses the work on at most this many files


def embed_folder(options: EmbedOptions) -> dict[str, Any]:
    """Begin or continue the job, and return the result that is printed as JSON."""
    started = time.perf_counter()
    check_options(options)
    bundle = open_bundle(options.bundle, options.trust)
    threads = options.threads or usable_cores()
    manifest = bundle.manifest
    row_maker = RowMaker(options.per, manifest.window, manifest.embedding_size, manifest.embedding_space)
    source = FolderEmbedder(
        options.folder.resolve(),
        row_maker,
        options.max_seconds,
        options.bundle.resolve(),
        options.backend,
        options.precision,
        threads,
        tuple(path.resolve() for path in options.trust),
    )
    if options.ray is None:
        say(f"embedding with {source.embedder.backend}, {options.precision}, {threads} threads")
    try:
        with open_job(
            options.parts,
            _settings(options, bundle),
            lambda: audio_files(options.folder),
            FILES_PER_PART,
            options.overwrite,
        ) as job:
            if job.done:
                say(f"continuing: {job.n_files_done} of {job.n_files} files are done")
            with _progress() as progress:
                bar = progress.add_task("embedding", total=job.n_files, completed=job.n_files_done)
                work = _work_here(job, source) if options.ray is None else work_on_ray(job, source, options.ray)
                for n_files in work:
                    progress.advance(bar, n_files)
            n_rows, n_errors, n_warned = _finish(job, source, options.out, options.errors)
    except OSError as error:
        raise UsageError(
            f"{options.out}: cannot be written ({error.strerror or error}); finished parts are kept: correct this "
            "and give the same command again"
        ) from error
    result = {
        "out": str(options.out),
        "rows": n_rows,
        "files": job.n_files,
        "errors": n_errors,
        "errors_file": str(options.errors),
        "warnings": n_warned,
        "files_done_before": job.n_files_done,
        **_speed(job, time.perf_counter() - started),
        "per": options.per,
        "embedding_space": manifest.embedding_space,
    }
    _show_result(result)
    return result


def _speed(job: ResumableJob, seconds: float) -> dict[str, float]:
    n_files = job.n_files - job.n_files_done
    return {"seconds": round(seconds, 3), "files_per_s": round(n_files / seconds, 2)}


def _settings(options: EmbedOptions, bundle: Bundle) -> dict[str, Any]:
    """Everything that the rows depend on."""
    return {
        "embedding_space": bundle.manifest.embedding_space,
        "model": bundle.manifest.files[bundle.model(options.precision).name].sha256,
        "precision": options.precision,
        "backend": options.backend,
        "per": options.per,
        "folder": str(options.folder.resolve()),
        "max_seconds": options.max_seconds,
    }


def _work_here(job: ResumableJob, source: FolderEmbedder) -> Iterator[int]:
    """Finish all parts in this process; yield the number of files of each finished part."""
    # One stream of files for all parts, so that decoding continues while a part is written.
    names = (name for _, names in job.missing() for name in names)
    with closing(source.embed(names)) as outcomes:
        for part, names_of_part in job.missing():
            of_part = islice(outcomes, len(names_of_part))
            job.save(part, lambda path, of_part=of_part: write_part(path, source.row_maker, of_part))
            yield len(names_of_part)


def _finish(job: ResumableJob, source: FolderEmbedder, out: Path, errors: Path) -> tuple[int, int, int]:
    """Join the parts and write both output files atomically. Returns the numbers of rows, errors and warnings."""
    new_rows, new_errors = job.folder / "rows.new", job.folder / "errors.new"
    schema = source.row_maker.schema.with_metadata({FOLDER: os.fsencode(source.folder)})
    counts = merge_parts(map(job.path, range(job.n_parts)), new_rows, new_errors, schema)
    move_atomically(new_errors, errors)
    move_atomically(new_rows, out)
    job.remove()
    return counts


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=progress_console, transient=True)


def _show_result(result: dict[str, Any]) -> None:
    table = Table(show_header=False)
    for name in ("rows", "files", "errors", "warnings", "seconds", "files_per_s"):
        table.add_row(name.replace("_", " "), str(result[name]))
    show(table, result["out"])
    if result["errors"]:
        say(f"{result['errors']} files could not be used: {result['errors_file']} gives the reasons")
    if result["warnings"]:
        say(f"{result['warnings']} files were read only in part: the column `warning` says what is missing")
