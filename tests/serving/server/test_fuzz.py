"""What a machine makes up from the description of the addresses: none of it is a fault, and the description is true."""

import importlib.util
import subprocess
import sys

import pytest

from tests.servers import running

MAX_EXAMPLES = 25  # for each address
# A file of bytes is all that the description can ask for; that most bytes are no sound it cannot say.
UNTOLD = "positive_data_acceptance"


@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
def test_no_request_that_fits_the_description_or_just_does_not_is_a_fault(bundle_folder, tmp_path):
    with running(bundle_folder, tmp_path / "log", "--max-seconds", "20") as server:
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.address}/openapi.json", "--no-color"]
        flags = f"--phases examples,coverage,fuzzing --max-examples {MAX_EXAMPLES} --seed 1 --exclude-checks {UNTOLD}"
        done = subprocess.run([*command, *flags.split()], capture_output=True, text=True, timeout=300, cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        statuses = {line["status"] for line in server.log() if line["event"] == "request"}
    assert {200, 400, 405, 415, 422} <= statuses  # it reached the routes and their refusals
    assert max(statuses) < 500
