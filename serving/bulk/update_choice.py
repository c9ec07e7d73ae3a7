"""Which rows `--update` keeps, and whether an unfinished job may be continued with or without `--update`."""

from typing import Any

from serving.bulk.embed_options import EmbedOptions
from serving.bulk.finished_rows import FinishedRows
from serving.bulk.resumable_job import begun_settings
from serving.errors import UsageError

UPDATES = "updates"  # among a job's settings: when the file that it updates was begun; its list has only new files


def rows_to_update(options: EmbedOptions, settings: dict[str, Any]) -> FinishedRows | None:
    """The finished file that the job updates; None: the job embeds all files of the folder.

    settings   of the job
    errors     UsageError: the finished file cannot be updated, or the unfinished job was begun the other way
    """
    begun = None if options.overwrite else begun_settings(options.parts)
    if begun is not None and UPDATES in begun and not options.update:
        raise UsageError(
            f"{options.parts}: an unfinished --update of {options.out}; give --update to go on with it, or --overwrite "
            "to begin anew"
        )
    if begun is not None and UPDATES in begun and not options.out.exists():
        raise UsageError(
            f"{options.parts}: an unfinished --update of {options.out}, which is no longer there; put it back, or give "
            "--overwrite without --update to begin anew"
        )
    if not options.update or not options.out.exists():
        return None
    if begun is not None and UPDATES not in begun:
        raise UsageError(
            f"{options.parts}: an unfinished job without --update; leave out --update to go on with it, or give "
            "--overwrite instead to begin anew"
        )
    finished = FinishedRows(options.out, settings, options.begin_anew)
    if begun is not None and begun[UPDATES] != finished.begun_ns:
        # Another file was put there, or the update was interrupted just before it removed this folder.
        raise UsageError(
            f"{options.parts}: is of an --update of an earlier {options.out.name}; remove this folder, and give the "
            "same command again"
        )
    return finished
