"""Bulk jobs that end early, as by Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serving.bulk.resumable_job import ResumableJob


@contextmanager
def interrupted_at(part: int, files_per_part: int | None = None) -> Iterator[None]:
    """In the block, a job is interrupted when it is about to save this part, counted from 0 in this run.

    files_per_part   None: as it is
    """
    real, saved = ResumableJob.save, []

    def save(self, first, write):
        if len(saved) == part:
            raise KeyboardInterrupt
        saved.append(first)
        return real(self, first, write)

    with pytest.MonkeyPatch.context() as patched:
        if files_per_part is not None:
            patched.setattr("serving.bulk.embed_folder.FILES_PER_PART", files_per_part)
        patched.setattr(ResumableJob, "save", save)
        yield
