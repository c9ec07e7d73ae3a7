"""The front end's DFT basis as a product of small factors, for a file that should be small.

The basis takes 0.75 MB: as much as a small network's weights in FP32, and twice as much as all of them in INT8.
As complex numbers its row of bin k is hann(t) z^t with z on the unit circle, and z^(a + b) = z^a z^b: with t = a + b,
20 multiples of 20 and 20 rests give all 400 samples. Runtimes multiply the factors out when they open the file,
because they are constants.
"""

import math

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BASIS = "log_mel.basis"  # the initialiser's name in exported files
PRECISE = 2.5e-7  # largest error of an entry, all in [-1, 1]: a few roundings of FP32; 1.8e-7 was measured


def factor_basis(model: onnx.ModelProto) -> None:
    """Replace the basis [2 * n_bins, 1, n_samples] of a model by its factors and what multiplies them, in place."""
    (stored,) = (tensor for tensor in model.graph.initializer if tensor.name == BASIS)
    basis = numpy_helper.to_array(stored)
    factors = _factors(basis.astype(np.float64))
    error = np.abs(_product(**factors) - basis).max()
    assert error <= PRECISE, f"{BASIS} is not a windowed DFT: its factors miss it by {error:.1e}"
    constants = factors | {"shape": np.array(basis.shape, np.int64)}
    steps = [
        ("Mul", "coarse_real", "fine_real", "real_real"),
        ("Mul", "coarse_imaginary", "fine_imaginary", "imaginary_imaginary"),
        ("Sub", "real_real", "imaginary_imaginary", "real"),
        ("Mul", "coarse_real", "fine_imaginary", "real_imaginary"),
        ("Mul", "coarse_imaginary", "fine_real", "imaginary_real"),
        ("Add", "real_imaginary", "imaginary_real", "imaginary"),
        ("Concat", "real", "imaginary", "both"),
        ("Mul", "both", "window", "windowed"),
        ("Reshape", "windowed", "shape", None),
    ]
    nodes = []
    for kind, left, right, result in steps:
        name = f"{BASIS}.{result}" if result else BASIS
        node = helper.make_node(kind, [f"{BASIS}.{left}", f"{BASIS}.{right}"], [name], name)
        if kind == "Concat":
            node.attribute.append(helper.make_attribute("axis", 0))
        nodes.append(node)
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.remove(stored)
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(value, f"{BASIS}.{name}"))


def _factors(basis: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
    """Two factors [n_bins, coarse, 1] and [n_bins, 1, fine], real and imaginary, and the window [coarse, fine]."""
    real, imaginary = np.split(basis[:, 0], 2)
    rows = real + 1j * imaginary  # [n_bins, n_samples]
    n_samples = rows.shape[1]
    window = np.abs(rows).mean(axis=0)
    turns = np.divide(rows, window, out=np.ones_like(rows), where=window > 0)  # z^0 = 1, where Hann begins with 0
    fine_size = next(size for size in range(math.isqrt(n_samples), 0, -1) if n_samples % size == 0)
    coarse, fine = turns[:, ::fine_size, None], turns[:, None, :fine_size]
    parts = {
        "coarse_real": np.real(coarse),
        "coarse_imaginary": np.imag(coarse),
        "fine_real": np.real(fine),
        "fine_imaginary": np.imag(fine),
        "window": window.reshape(-1, fine_size),
    }
    return {name: np.ascontiguousarray(part, dtype=np.float32) for name, part in parts.items()}


def _product(
    coarse_real: NDArray[np.float32],
    coarse_imaginary: NDArray[np.float32],
    fine_real: NDArray[np.float32],
    fine_imaginary: NDArray[np.float32],
    window: NDArray[np.float32],
) -> NDArray[np.float32]:
    """What the nodes compute, in FP32: [2 * n_bins, 1, n_samples]."""
    real = coarse_real * fine_real - coarse_imaginary * fine_imaginary
    imaginary = coarse_real * fine_imaginary + coarse_imaginary * fine_real
    product = np.asarray(np.concatenate([real, imaginary]) * window, np.float32)  # [2 * n_bins, coarse, fine]
    return product.reshape(len(product), 1, -1)
