"""Embed every recording of a folder into one Parquet file.

    python -m serving.embed bundles/first recordings/ --out embeddings.parquet

The same command continues an interrupted run. Files that cannot be used are listed with the reasons in
embeddings.errors.csv; they do not stop the run. The work is in serving.bulk.
"""

from collections.abc import Sequence

from serving.bulk.embed_folder import embed_folder
from serving.bulk.embed_options import EmbedOptions
from serving.command_line import run_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code."""
    return run_command(EmbedOptions, embed_folder, "python -m serving.embed", argv)


if __name__ == "__main__":
    raise SystemExit(main())
