"""Store the front end's DFT matrix as products of small factors, to make an INT8 file smaller.

The cosines and sines take 0.38 MB, as much as all INT8 weights of a small network. As complex numbers, the column of
bin k is hann(t) z^t with |z| = 1. Because z^(a + b) = z^a z^b, 20 multiples of 10 and the 10 remainders give all 200
samples t = a + b. A runtime multiplies the factors once, when it opens the file, because they are constants.
"""

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from export.graph import FRONT_END

MAX_ERROR = 2.5e-7  # of an element in [-1, 1]: a few FP32 roundings; 1.8e-7 was measured


def factor_basis(model: onnx.ModelProto) -> None:
    """Replace a model's cosines and sines [n_samples, n_bins] by factors and nodes that multiply them, in place."""
    cosines, sines = f"{FRONT_END}cosines", f"{FRONT_END}sines"
    stored = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in (cosines, sines)}
    basis = [numpy_helper.to_array(stored[name]) for name in (cosines, sines)]
    factors = _factors(*(part.astype(np.float64) for part in basis))
    error = max(np.abs(got - part).max() for got, part in zip(_product(**factors), basis, strict=True))
    assert error <= MAX_ERROR, f"{cosines} and {sines} are not a windowed DFT: their factors differ by {error:.1e}"
    constants = factors | {"shape": np.array(basis[0].shape, np.int64)}
    steps = [
        ("Mul", "coarse_cosines", "fine_cosines", "both_cosines"),
        ("Mul", "coarse_sines", "fine_sines", "both_sines"),
        ("Sub", "both_cosines", "both_sines", "turned_cosines"),
        ("Mul", "coarse_cosines", "fine_sines", "cosines_sines"),
        ("Mul", "coarse_sines", "fine_cosines", "sines_cosines"),
        ("Add", "cosines_sines", "sines_cosines", "turned_sines"),
        ("Mul", "turned_cosines", "window", "windowed_cosines"),
        ("Mul", "turned_sines", "window", "windowed_sines"),
        ("Reshape", "windowed_cosines", "shape", "cosines"),
        ("Reshape", "windowed_sines", "shape", "sines"),
    ]
    nodes = []
    for kind, *names in steps:
        left, right, result = (f"{FRONT_END}{name}" for name in names)
        nodes.append(helper.make_node(kind, [left, right], [result], result))
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for tensor in stored.values():
        model.graph.initializer.remove(tensor)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, f"{FRONT_END}{name}"))


def _factors(cosines: NDArray[np.float64], sines: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """Cosines and sines of the factors [coarse, 1, n_bins] and [1, fine, n_bins]; the window [coarse, fine, 1]."""
    columns = cosines + 1j * sines  # [n_samples, n_bins]
    n_samples = len(columns)
    window = np.abs(columns).mean(axis=1)
    turns = columns / window[:, None]
    fine_size = next(size for size in range(math.isqrt(n_samples), 0, -1) if n_samples % size == 0)
    coarse, fine = turns[::fine_size, None], turns[None, :fine_size]
    parts = {
        "coarse_cosines": np.real(coarse),
        "coarse_sines": np.imag(coarse),
        "fine_cosines": np.real(fine),
        "fine_sines": np.imag(fine),
        "window": window.reshape(-1, fine_size, 1),
    }
    return {name: np.ascontiguousarray(part, dtype=np.float32) for name, part in parts.items()}


def _product(
    coarse_cosines: NDArray[np.float32],
    coarse_sines: NDArray[np.float32],
    fine_cosines: NDArray[np.float32],
    fine_sines: NDArray[np.float32],
    window: NDArray[np.float32],
) -> list[NDArray[np.float32]]:
    """Compute what the nodes compute, in FP32: cosines and sines [n_samples, n_bins]."""
    cosines = (coarse_cosines * fine_cosines - coarse_sines * fine_sines) * window  # [coarse, fine, n_bins]
    sines = (coarse_cosines * fine_sines + coarse_sines * fine_cosines) * window
    return [np.asarray(part.reshape(-1, part.shape[2]), np.float32) for part in (cosines, sines)]
