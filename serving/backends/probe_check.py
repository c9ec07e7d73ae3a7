"""Compare a runtime with PyTorch on the parity probes, whose embeddings a bundle stores."""

from math import sqrt

import numpy as np

from serving.backends.runtime import Runtime
from serving.bundle.bundle import Bundle
from serving.bundle.bundle_files import BF16, PROBES
from serving.errors import BundleError
from serving.files.npz import ArrayForm, read_npz
from serving.probes import probe_windows

# Smallest accepted cosine between a probe's embedding and PyTorch's. For files it is the bound of the export
# (export.parity). bfloat16 has no file: its probes have more than 0.999 (docs/results/export.md), and less than 0.87 if
# the front end is computed in bfloat16 too.
PROMISED_COSINES = {"fp16": 0.999, BF16: 0.995, "int8": 0.985}
# Largest accepted distance from PyTorch's embedding, as a share of its length. At an angle a the distance is at least
# sin(a), so this bound implies the cosine's. fp32 has a tighter bound than its promised cosine of 0.99999: ONNX Runtime
# has less than 1e-4, and OpenVINO with the FFT front end less than 2e-4. OpenVINO in bfloat16, which it uses by default
# on CPUs that have it, has 6e-3 to 2e-2.
TOLERANCES = {"fp32": 1e-3} | {precision: sqrt(1 - cosine**2) for precision, cosine in PROMISED_COSINES.items()}
# PyTorch's own FP32 result is uncertain by the stored difference between its FP32 and FP64 results. Another order of
# summation gives 0.3 to 2.3 times that, so a number may differ by this many times of it. It matters where a full-scale
# tone leaves most DFT bins nearly empty: the logarithm then amplifies rounding to 1.5e-4 in the log-mel with a log
# offset of 0.01, and to 1.5e-3 with YAMNet's 0.001. Parity of the export has the same allowance.
ROUNDING_FACTOR = 4.0
MAX_ALLOWANCE = 1e-3  # of a number, whatever the file says
# Shorter embeddings (the mean length is 1) are compared as if they had this length, because rounding errors do not
# shrink with the length.
LEAST_LENGTH = 0.1
PROBES_AT_ONCE = 3  # of 15


def probe_forms(embedding_size: int) -> dict[str, ArrayForm]:
    """The arrays of probes.npz."""
    return {
        "names": ArrayForm("U", ("probes",)),
        "embeddings": ArrayForm("f", ("probes", embedding_size)),
        "rounding": ArrayForm("f", ("probes",)),
        "name": ArrayForm("U", (), optional=True),  # of the reference; export.parity reads it
    }


def probe_difference(bundle: Bundle, runtime: Runtime) -> tuple[float, str]:
    """The largest distance between a probe's embedding and PyTorch's.

    returns   the distance as a share of the embedding's length, and the name of the probe; inf if the result is not
              an embedding for each probe, or not finite
    """
    names, windows = probe_windows(bundle.manifest.window)
    stored = read_npz(bundle.read(PROBES), PROBES, probe_forms(bundle.manifest.embedding_size))
    stored_names = stored["names"].tolist()
    if missing := set(names) - set(stored_names):
        raise BundleError(f"{PROBES}: lacks the probe {min(missing)}; export the bundle again")
    order = [stored_names.index(name) for name in names]
    wanted, rounding = stored["embeddings"][order], stored["rounding"][order]  # [n_probes, 128], [n_probes]
    # A few at a time: so no network takes more memory here than one from a stranger may (serving.bundle.onnx_cost).
    parts = [windows[start : start + PROBES_AT_ONCE] for start in range(0, len(windows), PROBES_AT_ONCE)]
    rows = np.concatenate([runtime(part) for part in parts])
    if rows.shape != wanted.shape:
        return float("inf"), names[0]
    allowance = np.minimum(ROUNDING_FACTOR * rounding, MAX_ALLOWANCE)[:, None]
    beyond_rounding = np.maximum(np.abs(rows - wanted) - allowance, 0.0)
    distances = np.linalg.norm(beyond_rounding, axis=1) / np.maximum(np.linalg.norm(wanted, axis=1), LEAST_LENGTH)
    distances = np.nan_to_num(distances, nan=np.inf)
    worst = int(distances.argmax())
    return float(distances[worst]), names[worst]
