"""Report what is installed on this machine, what of it works, and what to do about the rest.

    python -m serving.doctor [BUNDLE]

With a bundle, every backend is opened, compared with PyTorch's embeddings, and timed. Exit code 1: something is broken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.markup import escape
from rich.table import Table

from serving.command_line import console, progress_console, run_command
from serving.doctor.finding import Finding
from serving.doctor.machine import examine_machine
from serving.errors import UsageError
from serving.trust_option import Trusted

STYLES = {"ok": "", "absent": "dim", "broken": "red"}


@dataclass(frozen=True)
class Options:
    """Report what is installed, what of it works, and what to do about the rest."""

    bundle: Annotated[Path | None, tyro.conf.Positional] = None
    """bundle folder: check and time every backend with it"""
    trust: Trusted = ()


def examine(bundle: Path | None, trusted: Sequence[Path] = ()) -> Iterator[Finding]:
    """Findings about the machine, and about a bundle if nothing on the machine is broken."""
    broken = False
    for finding in examine_machine():
        broken |= finding.state == "broken"
        yield finding
    if bundle is not None and broken:
        yield Finding("bundle", "not tried", "absent", "repair what is broken first")
    elif bundle is not None:
        from serving.doctor.bundle_check import examine_bundle  # imports packages that were just checked

        yield from examine_bundle(bundle, trusted)


def work(options: Options) -> dict[str, Any]:
    """Print the findings, and return them for the JSON line.

    errors   UsageError: no such bundle folder
    """
    if options.bundle is not None and not options.bundle.is_dir():
        raise UsageError(f"{options.bundle}: no such bundle folder; give one, or none to check the machine only")
    findings: list[Finding] = []
    with progress_console.status("checking") as status:
        for finding in examine(options.bundle, options.trust):
            status.update(escape(f"checking; {finding.what}: {finding.state}"))  # it takes "[ray]" for a style
            findings.append(finding)
    _print_findings(findings)
    broken = [finding.what for finding in findings if finding.state == "broken"]
    return {"broken": broken, "findings": [asdict(finding) for finding in findings]}


def _print_findings(findings: Sequence[Finding]) -> None:
    """A table of what was found; below it the advice, in lines that are not wrapped, so that commands can be copied."""
    table = Table(title="serving.doctor", title_justify="left")
    for column in ("what", "state", "found"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(finding.what, finding.state, finding.found, style=STYLES[finding.state])
    console.print(table)
    for finding in findings:
        if finding.advice:
            line = f"{finding.what}: {finding.advice}"
            console.print(line, style=STYLES[finding.state], soft_wrap=True, highlight=False)
    broken = [finding.what for finding in findings if finding.state == "broken"]
    console.print(f"broken: {', '.join(broken)}" if broken else "nothing is broken", soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    broken: list[str] = []

    def work_and_remember(options: Options) -> dict[str, Any]:
        result = work(options)
        broken.extend(result["broken"])
        return result

    return run_command(Options, work_and_remember, "python -m serving.doctor", argv) or int(bool(broken))


if __name__ == "__main__":
    raise SystemExit(main())
