"""What `make setup` installs, and what it says when it cannot."""

import os
import shutil
import subprocess
import sys
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


def test_an_interrupted_setup_goes_on_and_what_it_installs_is_found_from_any_folder(tmp_path: Path) -> None:
    project = tmp_path / "a project"
    (project / "serving").mkdir(parents=True)
    (project / "serving" / "__main__.py").write_text("print('found')")
    (project / "requirements.lock").touch()
    shutil.copy(ROOT / "Makefile", project)
    # What is left when the making of the environment is interrupted: an interpreter without pip.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project / ".venv"], check=True, timeout=60)
    subprocess.run(
        ["make", "setup", f"PYTHON={sys.executable}", "VENV_GB=0"],
        cwd=project,
        check=True,
        timeout=300,
        stdout=subprocess.DEVNULL,
    )
    command = [project / ".venv" / "bin" / "python", "-m", "serving"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "found\n", done.stderr
