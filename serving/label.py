"""Name the sounds of every recording in a folder: which label is heard from when to when.

    python -m serving.label bundles/first recordings/ --labels "dog,a creaking door" --out table.csv

The same command continues an interrupted run. Files that cannot be used are listed with the reasons in
table.errors.csv; they do not stop the run. The work is in serving.labelling.
"""

from collections.abc import Sequence

from serving.command_line import run_command
from serving.labelling.label_folder import label_folder
from serving.labelling.label_options import LabelOptions


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    return run_command(LabelOptions, label_folder, "python -m serving.label", argv)


if __name__ == "__main__":
    raise SystemExit(main())
