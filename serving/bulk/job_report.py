"""What a bulk job did, as it is told: the last line of JSON, a table for people, and what went wrong."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from serving.bulk.job_progress import Worked
from serving.command_line import say, show
from serving.errors import UsageError


@dataclass(frozen=True)
class Embedded:
    """What a job did.

    rows, files, errors, warnings   of the finished file: rows; recordings; those without rows; those read only in part
    kept, missing                   recordings whose rows an update kept; those among them that are no longer there
    done_before                     files that earlier, interrupted runs had finished
    worked                          what this run did
    """

    rows: int
    files: int
    errors: int
    warnings: int
    kept: int
    missing: int
    done_before: int
    worked: Worked


def refuse_no_rows(done: Embedded, folder: Path, errors: Path) -> None:
    """UsageError: no recording of the folder could be used. errors: the CSV file with the reasons."""
    if not done.rows:
        what = "its only recording cannot" if done.files == 1 else f"none of its {done.files} recordings can"
        raise UsageError(
            f"{folder}: {what} be used; {errors} gives the reasons: give another folder, or correct this and add "
            "--overwrite"
        )


def speed(worked: Worked | None, seconds: float) -> dict[str, float | None]:
    """How long a run took and how fast it was, for its result. worked: None: nothing was embedded, so no speed."""
    if worked is None:
        fast = dict.fromkeys(("files_per_s", "recorded_hours", "recorded_hours_per_s"))
        return {"seconds": round(seconds, 3), **fast}
    hours = worked.seconds / 3600
    return {
        "seconds": round(seconds, 3),
        "files_per_s": round(worked.files / seconds, 2),
        "recorded_hours": round(hours, 4),
        "recorded_hours_per_s": round(hours / seconds, 4),
    }


def show_result(result: dict[str, Any]) -> None:
    """Show the result of `embed_folder` as a table, and say what could not be used."""
    table = Table(show_header=False)
    for name in ("rows", "files", "errors", "warnings", "kept", "missing", "seconds", "recorded_hours_per_s"):
        table.add_row(name.replace("_", " "), str(result[name]))
    show(table, result["out"])
    if result["errors"]:
        say(f"files that could not be used: {result['errors']}; {result['errors_file']} gives the reasons")
    if result["warnings"]:
        say(
            f"files with a warning, most because a part is missing: {result['warnings']}; see the column `warning` and "
            f"{result['errors_file']}"
        )
    say_missing(result["missing"], result["errors_file"])


def say_missing(number: int, errors: str) -> None:
    """Say how many recordings are gone whose rows an update kept. errors: the CSV file that lists them."""
    if number == 1:
        say(f"1 recording is no longer there; its rows were kept: {errors} names it")
    elif number:
        say(f"{number} recordings are no longer there; their rows were kept: {errors} lists them")
