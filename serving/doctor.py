"""What is installed here, what of it really works, and what to do about the rest.

    python -m serving.doctor [BUNDLE]

With a bundle, each backend is opened, held against PyTorch's embeddings, and timed. Exit code 1: something is broken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.markup import escape
from rich.table import Table

from serving.command_line import console, progress_console, run_command
from serving.errors import UsageError
from serving.machine import Finding, examine_machine

STYLES = {"ok": "", "absent": "dim", "broken": "red"}


@dataclass(frozen=True)
class Options:
    """Say what is installed, what of it works, and what to do about the rest."""

    bundle: Annotated[Path | None, tyro.conf.Positional] = None
    """a bundle's folder: try and time each backend with it"""


def _examine(bundle: Path | None) -> Iterator[Finding]:
    broken = False
    for finding in examine_machine():
        broken |= finding.state == "broken"
        yield finding
    if bundle is not None and broken:
        yield Finding("bundle", "not tried", "absent", "mend what is broken first")
    elif bundle is not None:
        from serving.trial import examine_bundle  # imports what the lines before have found to be there

        yield from examine_bundle(bundle)


def work(options: Options) -> dict[str, Any]:
    """Report as the findings come; returns what is printed as JSON.

    errors   UsageError: no such bundle folder
    """
    if options.bundle is not None and not options.bundle.is_dir():
        raise UsageError(f"{options.bundle}: no such bundle folder; give one, or none to look at this machine alone")
    table = Table(title="serving.doctor", title_justify="left")
    for column in ("what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    findings: list[Finding] = []
    with progress_console.status("looking") as status:
        for finding in _examine(options.bundle):
            status.update(escape(f"looking; {finding.what}: {finding.state}"))
            findings.append(finding)
            cells = map(escape, (finding.what, finding.found, finding.advice))  # or "[ray]" would be a style
            table.add_row(*cells, style=STYLES[finding.state])
    console.print(table)
    broken = [finding.what for finding in findings if finding.state == "broken"]
    console.print(escape(f"broken: {', '.join(broken)}") if broken else "nothing is broken", soft_wrap=True)
    return {"broken": broken, "findings": [asdict(finding) for finding in findings]}


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    broken: list[str] = []

    def work_and_remember(options: Options) -> dict[str, Any]:
        result = work(options)
        broken.extend(result["broken"])
        return result

    return run_command(Options, work_and_remember, "python -m serving.doctor", argv) or int(bool(broken))


if __name__ == "__main__":
    raise SystemExit(main())
