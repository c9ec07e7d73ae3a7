"""What a graph costs, known before any of it is computed: the sizes of its tensors, and its multiplications.

A small file can make tensors of any size: a few Concat of a tensor with itself, a product of a column and a row, a
convolution with a wide border. So the shapes of all tensors are inferred first, by ONNX Runtime, from the graph without
its weights: nothing is computed, and nothing large is allocated.
"""

from collections.abc import Mapping
from math import prod

from serving.bundle.onnx_skeleton import Node, Shape, Skeleton, read_skeleton
from serving.errors import BundleError, one_line

# For one window. The largest of our networks: 13 million numbers (yamnet-compact and yamnet in INT8), 0.9 billion
# products (vggish).
MAX_NUMBERS = 16_000_000
MAX_PRODUCTS = 3_000_000_000


def check_cost(content: bytes, name: str, sizes: Mapping[str, int] | None = None, scale: int = 1) -> None:
    """Refuse a graph whose tensors are large, whose shapes are not known, or that multiplies for seconds.

    content  of an ONNX file that `check_onnx` accepts
    name     of the file, for messages
    sizes    of the dimensions that have a name instead of a size; those that are not here count as 1
    scale    the graph may cost as much as this many windows
    errors   BundleError
    """
    try:
        skeleton = read_skeleton(memoryview(content), sizes or {})
        _check_nodes(skeleton, skeleton.shapes | _infer(skeleton.model), scale)
    except ValueError as error:
        raise BundleError(f"{name}: {error}; export the bundle again") from error


def _check_nodes(skeleton: Skeleton, shapes: Mapping[str, Shape], scale: int) -> None:
    """Add up what the operators need, besides the weights of 8 or 16 bits, which are converted once."""
    max_numbers, max_products = scale * MAX_NUMBERS, scale * MAX_PRODUCTS
    numbers, products = -skeleton.narrow_weights, 0
    for node in skeleton.nodes:
        for output in filter(None, node.outputs):
            if min(shapes.get(output, [-1]), default=0) < 0:
                raise ValueError(f"its operator {node.operator} makes a tensor whose size is not known")
            size = prod(shapes[output])
            numbers += size // 4 if node.operator == "QuantizeLinear" else size  # bytes
        computed, scratch = _work(node, shapes)
        numbers, products = numbers + scratch, products + computed
        if numbers > max_numbers or products > max_products:
            raise ValueError(
                f"needs {max(numbers, 0):.3g} numbers and {products:.3g} products for one input up to its operator "
                f"{node.operator}, wanted at most {max_numbers:.3g} and {max_products:.3g}"
            )


def _work(node: Node, shapes: Mapping[str, Shape]) -> tuple[int, int]:
    """The products that an operator computes, and the numbers that it needs besides its output."""
    first, second = ([shapes.get(name, []) for name in node.inputs] + [[], []])[:2]
    size = prod(shapes.get(node.outputs[0], [])) if node.outputs else 0
    match node.operator:
        case "Conv":
            kernel = prod(second[1:])
            return size * kernel, size * kernel // max(1, second[0] if second else 1)
        case "MatMul":
            return size * (first[-1] if first else 1), 0
        case "Gemm":
            return size * max([1, *first]), 0
        case "AveragePool" | "MaxPool":
            return size * node.kernel, 0
        case _:
            return max(size, prod(first)), 0


def _infer(skeleton: bytes) -> dict[str, Shape]:
    """The shapes of a skeleton's inputs and outputs; -1 for a size that cannot be known."""
    # Imported now, because an engine needs none of it: 18 MB.
    from serving.backends.onnxruntime import PROVIDERS
    from serving.backends.onnxruntime_library import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # else it would compute
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(skeleton, options, providers=[PROVIDERS["cpu"]])
    except Exception as error:  # ONNX Runtime's exceptions have no public base class
        raise ValueError(f"is no graph that ONNX Runtime reads ({one_line(error, 200)})") from error
    # Sizes that are not known are names here.
    return {
        value.name: [size if isinstance(size, int) else -1 for size in value.shape]
        for value in (*session.get_inputs(), *session.get_outputs())
    }
