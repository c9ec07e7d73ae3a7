"""What `make setup` says when it cannot install."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_too_little_disk_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    disk = tmp_path / "df"
    disk.write_text("#!/bin/sh\necho Avail\necho 5G\n")
    disk.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["make", "setup", f"VENV={tmp_path}/venv"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "error: got 5 GB free" in done.stderr
    assert "wanted 9 GB" in done.stderr
    assert not (tmp_path / "venv").exists()
