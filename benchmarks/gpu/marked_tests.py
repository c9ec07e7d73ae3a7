"""The tests that need a GPU: python -m pytest -m gpu tests."""

import re
import subprocess
import sys

from benchmarks.gpu.piece import Table, Tables, parse


def main() -> None:
    """Run them and write their result."""
    options = parse("marked_tests")
    chosen = ["-m", "gpu", "tests"] if not options.quick else ["-m", "gpu", "tests/serving/backends"]
    command = [sys.executable, "-m", "pytest", "-q", "-rfEs", "-p", "no:cacheprovider", *chosen]
    done = subprocess.run(command, capture_output=True, text=True)
    if not done.stdout.strip():  # pytest is not there, or ended before its first test
        raise SystemExit((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    lines = [line for line in done.stdout.splitlines() if re.match(r"(FAILED|ERROR|SKIPPED) ", line)]
    last = done.stdout.strip().splitlines()[-1]
    rows = [[last, ""], *([line.split(" ", 1)[0].lower(), line.split(" ", 1)[1][:200]] for line in lines)]
    Tables(options.json).put(Table("Tests marked gpu", ["result", "which"], rows))


if __name__ == "__main__":
    main()
