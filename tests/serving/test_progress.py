"""Progress where there is no terminal: lines, not bars."""

import pytest

from serving import progress
from serving.bulk.job_parts import PartSize
from serving.bulk.job_progress import Worked, show_progress
from serving.progress import ProgressBars, track


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves. A dict with the time in seconds."""
    now = {"s": 100.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: now["s"])
    return now


def test_a_pipe_gets_a_line_now_and_then(clock, capsys):
    with ProgressBars(unit="epoch") as bars:
        task = bars.add_task("vocabulary", total=12, numbers="loss 0.5")
        for step in range(1, 25):
            clock["s"] += 1
            bars.update(task, completed=step / 2)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("vocabulary: epoch 5 of 12, loss 0.5")
    assert lines[1].startswith("vocabulary: epoch 10 of 12, loss 0.5")


def test_quick_work_and_quiet_work_print_nothing(clock, capsys):
    assert list(track(range(3), "quick")) == [0, 1, 2]
    for _ in track(range(3), "quiet", quiet=True):
        clock["s"] += 100
    assert capsys.readouterr().err == ""


def test_slow_items_are_counted(clock, capsys):
    seen = []
    for _ in track(iter("abc"), "decoding", total=3):
        seen += capsys.readouterr().err.splitlines()  # what was told before the next item
        clock["s"] += progress.LINE_SECONDS
    assert [line.split(",")[0] for line in seen] == ["decoding: 1 of 3", "decoding: 2 of 3"]
    assert capsys.readouterr().err.startswith("decoding: 3 of 3")


def test_the_bulk_job_tells_files_and_recorded_hours_in_a_pipe(clock, capsys):
    with show_progress(PartSize(4, 4_000_000), PartSize(1, 1_000_000)) as job:
        clock["s"] += progress.LINE_SECONDS
        job.count([Worked(files=1, bytes=1_000_000, seconds=60.0)])
    assert capsys.readouterr().err.startswith("embedding: byte 2,000,000 of 4,000,000, 2/4 files, ")
