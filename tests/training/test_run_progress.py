"""The TensorBoard events of a run: a disk that fills up ends them, and not the training."""

import subprocess
import sys

FULL = """
import resource, sys
from pathlib import Path
from matplotlib.figure import Figure
from training.fit.recipe import Epoch
from training.run_progress import TensorBoardLog

board = TensorBoardLog(Path(sys.argv[1]))
size = sum(path.stat().st_size for path in Path(sys.argv[1]).rglob("*") if path.is_file())
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 500, resource.RLIM_INFINITY))
for epoch in range(1, 4):
    board.epoch(Epoch(epoch, 1.0, 0.5, None, None, 1e-3, 1.0, 1.0))
board.figure("curves", Figure(figsize=(4, 4)), 3)
board.close()
print("went on")
"""


def test_events_that_cannot_be_written_are_one_warning_and_the_training_goes_on(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "tensorboard: cannot be written (File too large)" in warnings[0]
