"""The bulk job: embed every recording of a folder into one Parquet file, in parts that survive an interruption."""

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

from serving.bulk.changed_files import confirmed_stamps, files_to_embed
from serving.bulk.embed_files import BYTES_A_WINDOW
from serving.bulk.embed_options import EmbedOptions, check_options
from serving.bulk.finished_rows import BEGUN, SETTINGS, FinishedRows, by_path, in_path_order
from serving.bulk.folder_job import embed_in_processes
from serving.bulk.job_errors import system_errors_told
from serving.bulk.job_progress import JobProgress, Worked, show_progress
from serving.bulk.job_report import Embedded, refuse_no_rows, show_result, speed
from serving.bulk.kept_files import note_kept
from serving.bulk.parquet_rows import (
    FOLDER,
    FileOutcome,
    MadeRows,
    PartReader,
    RowMaker,
    have_rows,
    write_made_rows,
    write_part,
    write_rows,
)
from serving.bulk.processes import choose_processes, group_names
from serving.bulk.ray_cluster import work_on_ray
from serving.bulk.recordings_folder import FolderEmbedder
from serving.bulk.resumable_job import ResumableJob, open_job
from serving.bulk.update_choice import UPDATES, rows_to_update
from serving.bundle.bundle import Bundle, open_bundle
from serving.command_line import say
from serving.cores import usable_cores
from serving.errors import AudioError
from serving.files.atomic_write import move_atomically

FILES_PER_PART = 256  # Ray saves this many at a time; else a killed run loses less, see `ResumableJob.save_part`


def embed_folder(options: EmbedOptions) -> dict[str, Any]:
    """Begin, continue or update the file, and return the result that is printed as JSON."""
    started = time.perf_counter()
    check_options(options)
    bundle = open_bundle(options.bundle, options.trust)
    done = run_job(options, bundle, folder_embedder(options, bundle))
    refuse_no_rows(done, options.folder, options.errors)
    seconds = time.perf_counter() - started
    result = {
        "out": str(options.out),
        "rows": done.rows,
        "files": done.files,
        "errors": done.errors,
        "errors_file": str(options.errors),
        "warnings": done.warnings,
        "kept": done.kept,
        "missing": done.missing,
        "files_done_before": done.done_before,
        **speed(done.worked, seconds),
        "per": options.per,
        "embedding_space": bundle.manifest.embedding_space,
    }
    show_result(result)
    return result


def folder_embedder(options: EmbedOptions, bundle: Bundle) -> FolderEmbedder:
    """What embeds the files of the folder. UsageError: a wrong hop."""
    manifest = bundle.manifest
    manifest.window.with_hop(options.hop_seconds)
    return FolderEmbedder(
        options.folder.resolve(),
        RowMaker(options.per, manifest.embedding_size, manifest.embedding_space),
        options.max_seconds,
        options.hop_seconds,
        options.bundle.resolve(),
        options.backend,
        options.precision,
        options.threads or usable_cores(),
        tuple(path.resolve() for path in options.trust),
    )


def run_job(options: EmbedOptions, bundle: Bundle, source: FolderEmbedder) -> Embedded:
    """Do the job: write the Parquet file and the CSV file of errors, both whole.

    No Parquet file is written if no recording could be used, see `refuse_no_rows`.
    """
    settings = settings_of(options, bundle)
    finished = rows_to_update(options, settings)
    with (
        system_errors_told(options),
        open_job(
            options.parts,
            settings | ({UPDATES: finished.begun_ns} if finished else {}),
            lambda folder: files_to_embed(source, finished, folder, f".{options.parts.name}-"),
            FILES_PER_PART,
            options.overwrite,
            options.out_flag,
            options.purpose,
        ) as job,
    ):
        before = job.done_before
        if before.files:
            say(f"continuing: {before.files} of {job.all.files} files are done")
        processes = _processes(options, job, source)
        with show_progress(job.all, before) as progress:
            if options.ray is not None:
                progress.count(work_on_ray(job, source, options.ray))
            elif processes == 1:
                _work_here(job, source, progress)
            else:
                _work_in_processes(job, source, progress, processes)
        return _finish(job, source, options, settings, finished, progress.worked)


def _processes(options: EmbedOptions, job: ResumableJob, source: FolderEmbedder) -> int:
    """How many processes do the job on this machine; says with what they embed."""
    if options.ray is not None:
        return 1
    size, done = job.all, job.done_before
    windows = size.files - done.files + (size.bytes - done.bytes) // BYTES_A_WINDOW
    processes = choose_processes(options.processes, source.threads, windows)
    what = f"{source.threads} threads" if processes == 1 else f"{processes} processes"
    say(f"embedding with {source.embedder.backend}, {options.precision}, {what}")
    return processes


def settings_of(options: EmbedOptions, bundle: Bundle) -> dict[str, Any]:
    """Everything that the rows depend on."""
    return {
        "embedding_space": bundle.manifest.embedding_space,
        "model": bundle.manifest.files[bundle.model(options.precision).name].sha256,
        "precision": options.precision,
        "backend": options.backend,
        "per": options.per,
        "folder": str(options.folder.resolve()),
        "max_seconds": options.max_seconds,
        "hop_seconds": options.hop_seconds,
    }


def _work_here(job: ResumableJob, source: FolderEmbedder, progress: JobProgress) -> None:
    """Finish all parts in this process."""

    def counted(outcomes: Iterator[FileOutcome]) -> Iterator[FileOutcome]:
        for file in outcomes:
            seconds = 0.0 if isinstance(file.outcome, AudioError) else file.outcome.duration_s
            progress.count([Worked(1, source.size(file.path), seconds)])
            yield file

    # One stream of files for all parts, so that decoding continues while a part is written.
    names = (name for part in job.missing() for name in part.names)
    with closing(source.embed(names)) as outcomes:
        for part in job.missing():
            of_part = counted(islice(outcomes, len(part.names)))
            job.save_part(part, of_part, lambda _: 1, lambda path, files: write_part(path, source.row_maker, files))


def _work_in_processes(job: ResumableJob, source: FolderEmbedder, progress: JobProgress, processes: int) -> None:
    """Finish all parts with worker processes."""

    def groups() -> Iterator[list[str]]:
        for part in job.missing():
            yield from group_names(part.names, source.windows)  # a group belongs to one part

    def of_part(names: list[str]) -> Iterator[MadeRows]:
        left = deque(names)
        while left:
            rows = next(results)
            size = sum(source.size(left.popleft()) for _ in range(rows.files))
            progress.count([Worked(rows.files, size, rows.seconds)])
            yield rows

    schema = source.row_maker.schema
    with closing(embed_in_processes(source, groups(), processes)) as results:
        for part in job.missing():
            rows = of_part(part.names)
            job.save_part(part, rows, lambda made: made.files, lambda path, made: write_made_rows(path, schema, made))


def _finish(
    job: ResumableJob,
    source: FolderEmbedder,
    options: EmbedOptions,
    settings: dict[str, Any],
    finished: FinishedRows | None,
    worked: Worked,
) -> Embedded:
    """Join the parts, and what an update keeps, and write both output files atomically.

    An update leaves the Parquet file as it is if its rows stay the same: an index of it then stays valid.
    """
    new_rows, new_errors = job.folder / "rows.new", job.folder / "errors.new"
    schema = source.row_maker.schema.with_metadata(
        {
            FOLDER: os.fsencode(source.folder),
            SETTINGS: json.dumps(settings).encode(),
            BEGUN: str(job.begun_ns).encode(),
        }
    )
    parts = PartReader(job.finished(), new_errors)
    kept: dict[str, str] = {}  # path -> warning
    is_new = True
    if finished is None:
        n_rows = write_rows(new_rows, parts.batches(), schema)
    else:
        renewed, stamps, known = set(job.names()), confirmed_stamps(job.folder), finished.warnings()
        kept = {path: warning for path, warning in known.items() if path not in renewed}
        is_new = have_rows(job.finished()) or len(kept) < len(known) or bool(stamps)
        if is_new:
            old = finished.rows_except(renewed, schema, stamps)
            n_rows = write_rows(new_rows, in_path_order(old, by_path(parts.batches())), schema)
        else:
            n_rows = finished.n_rows
            deque(parts.batches(), maxlen=0)  # for the CSV file of errors
    noted = note_kept(source.folder, kept, new_errors)
    move_atomically(new_errors, options.errors)
    if n_rows and is_new:
        move_atomically(new_rows, options.out)
    before = job.done_before.files
    job.remove()
    return Embedded(
        rows=n_rows,
        files=job.all.files + len(kept),
        errors=parts.errors,
        warnings=parts.warned + noted.warned,
        kept=len(kept),
        missing=noted.missing,
        done_before=before,
        worked=worked,
    )
