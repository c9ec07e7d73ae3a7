"""Tensors of the Open Inference Protocol: JSON, and the bytes that may follow it, to windows and back.

Binary tensors: https://github.com/kserve/open-inference-protocol and Triton's extension_binary_data.md. The body is
JSON of `inference-header-content-length` bytes, then the tensors' bytes, row after row, little-endian.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.audio import check_wave
from serving.errors import AudioError
from serving.server.json_numbers import MAX_OTHER_BYTES, NumberArray, NumbersError, load_json

INPUT, OUTPUT, DATATYPE = "waveform", "embedding", "FP32"
MAX_WINDOWS = 1_000_000  # in a shape; the windows that a request may contain are limited elsewhere
NUMBER_BYTES = 32  # most that JSON needs for a float32: 25 for the longest double with its comma, and some white space


class ProtocolError(Exception):
    """A request is not one of the protocol, or does not fit the model. The client must change it."""


@dataclass(frozen=True)
class Inference:
    """A request to infer.

    windows     [n, samples] float32, finite
    request_id  None: the client gave none
    binary      the client wants the embeddings as bytes, not as JSON
    """

    windows: NDArray[np.float32]
    request_id: str | None
    binary: bool


def max_json_bytes(windows: int, samples: int) -> int:
    """The size of JSON that holds this many windows."""
    return windows * samples * NUMBER_BYTES + MAX_OTHER_BYTES


def read_inference(body: bytes, header_length: str | None, samples: int, max_json: int) -> Inference:
    """Parse and check the body of a request to infer.

    header_length  the value of `inference-header-content-length`; None: the body is JSON alone
    samples        in one of the model's windows
    max_json       largest JSON, in bytes
    errors         ProtocolError
    """
    n_json = _json_length(body, header_length, max_json)
    try:
        request, arrays = load_json(body[:n_json])
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the request's JSON cannot be read ({str(error)[:200]})") from error
    except NumbersError as error:
        raise ProtocolError(f"{INPUT}: {error}") from error

    def values(tensor: dict[str, Any], shape: list[int]) -> NDArray[np.float32]:
        n_values = shape[0] * shape[1]
        size = _parameters(tensor).get("binary_data_size")
        if size is not None:
            return _from_bytes(body[n_json:], size, n_values)
        if isinstance(array := arrays.get(str(tensor.get("data"))[:80]), NumberArray):
            return _from_array(array, shape)
        return _from_json(tensor, n_values)

    return check_inference(request, samples, values)


def check_inference(
    request: Any, samples: int, read_values: Callable[[dict[str, Any], list[int]], NDArray[np.float32]]
) -> Inference:
    """Check a request to infer that has the form of the protocol's JSON.

    samples      in one of the model's windows
    read_values  the values of the tensor, in any shape, for the tensor and its checked shape. ProtocolError: not as
                 many as the shape says
    errors       ProtocolError
    """
    tensor = _only(_field(request, "inputs", list), INPUT, "inputs")
    shape, datatype = _field(tensor, "shape", list), _field(tensor, "datatype", str)
    if datatype != DATATYPE:
        raise ProtocolError(f"{INPUT}: got datatype {datatype[:80]}; wanted {DATATYPE}")
    are_integers = all(type(each) is int for each in shape)  # to Python, 1.0 and true equal 1
    if len(shape) != 2 or not are_integers or shape[1] != samples or not 1 <= shape[0] <= MAX_WINDOWS:
        got = str(shape)[:80]
        raise ProtocolError(f"{INPUT}: got shape {got}; wanted [windows, {samples}], with 1 to {MAX_WINDOWS} windows")
    windows = read_values(tensor, shape).reshape(-1, samples)
    try:
        check_wave(windows, INPUT)
    except AudioError as error:
        raise ProtocolError(str(error)) from error
    request_id = request.get("id")
    return Inference(windows, None if request_id is None else str(request_id)[:256], _wants_binary(request))


def write_inference(
    rows: NDArray[np.float32], inference: Inference, model: str, version: str
) -> tuple[bytes, int | None]:
    """The body of a response, and the number of its bytes that are JSON; None: all are."""
    tensor: dict[str, Any] = {"name": OUTPUT, "datatype": DATATYPE, "shape": list(rows.shape)}
    answer = {"model_name": model, "model_version": version, "outputs": [tensor]}
    if inference.request_id is not None:
        answer["id"] = inference.request_id
    if not inference.binary:
        tensor["data"] = rows.ravel().tolist()
        return json.dumps(answer).encode(), None
    values = rows.astype("<f4").tobytes()
    tensor["parameters"] = {"binary_data_size": len(values)}
    head = json.dumps(answer).encode()
    return head + values, len(head)


def _json_length(body: bytes, header_length: str | None, max_json: int) -> int:
    """How many bytes at the start of the body are JSON."""
    if header_length is None:
        return len(body)
    most = min(len(body), max_json)
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) <= 12):
        most = -1
    if most < 0 or int(header_length) > most:
        raise ProtocolError(
            f"inference-header-content-length: got {header_length[:80]}; wanted bytes of JSON, "
            f"at most {min(len(body), max_json)}"
        )
    return int(header_length)


def _from_array(array: NumberArray, shape: list[int]) -> NDArray[np.float32]:
    # Before memory is taken for the shape: a number takes two bytes or more, its comma included.
    if 2 * shape[0] * shape[1] > len(array.text):
        raise ProtocolError(f"{INPUT}: got fewer than the {shape[0] * shape[1]} numbers of its shape")
    try:
        return array.parse(shape[0], shape[1])
    except NumbersError as error:
        raise ProtocolError(f"{INPUT}: its data {error}; wanted the numbers of shape {shape}") from error


def _from_json(tensor: dict[str, Any], n_values: int) -> NDArray[np.float32]:
    data = _field(tensor, "data", list)
    # Before NumPy sees them: with a long text among them, it would store every value at that length.
    if odd := _kinds(data) - {int, float}:
        got = " and ".join(sorted(kind.__name__ for kind in odd))
        raise ProtocolError(f"{INPUT}: got {got} in its data; wanted {n_values} numbers")
    try:
        values = np.asarray(data)
    except ValueError as error:  # lists of unequal length
        raise ProtocolError(f"{INPUT}: its data is no array of numbers") from error
    if values.dtype.kind not in "iuf" or values.size != n_values:
        raise ProtocolError(f"{INPUT}: got data of {values.size} {values.dtype}; wanted {n_values} numbers")
    with np.errstate(over="ignore"):  # becomes infinite, and is refused for that
        return values.ravel().astype(np.float32)


def _kinds(values: list[Any]) -> set[type]:
    """The types of all values, including those in nested lists of any depth."""
    kinds: set[type] = set()
    while values:
        here = set(map(type, values))
        kinds |= here
        values = list(chain.from_iterable(value for value in values if type(value) is list)) if list in here else []
    return kinds - {list}


def _from_bytes(data: bytes, size: Any, n_values: int) -> NDArray[np.float32]:
    if size != len(data) or size != 4 * n_values:
        raise ProtocolError(
            f"{INPUT}: got binary_data_size {str(size)[:80]} and {len(data)} bytes after the JSON; "
            f"wanted {4 * n_values} for {n_values} {DATATYPE}"
        )
    return np.frombuffer(data, "<f4").astype(np.float32)


def _wants_binary(request: dict[str, Any]) -> bool:
    wanted = _parameters(request).get("binary_data_output", False)
    if request.get("outputs"):
        output = _only(_field(request, "outputs", list), OUTPUT, "outputs")
        if "classification" in _parameters(output):
            raise ProtocolError(f"{OUTPUT}: classification is not offered; leave it out")
        wanted = _parameters(output).get("binary_data", wanted)
    return wanted is True


def _only(tensors: list[Any], name: str, kind: str) -> dict[str, Any]:
    """The only tensor that is allowed."""
    names = [_field(tensor, "name", str) for tensor in tensors]
    if names != [name]:
        got = ", ".join(names)[:80] or "none"
        raise ProtocolError(f"{kind}: got {got}; wanted {name}")
    if any(key.startswith("shared_memory") for key in _parameters(tensors[0])):
        raise ProtocolError(f"{name}: shared memory is not offered; send the values in the request")
    return tensors[0]


def _field(thing: Any, name: str, kind: type) -> Any:
    value = thing.get(name) if isinstance(thing, dict) else None
    if not isinstance(value, kind):
        got = str(value)[:80]
        raise ProtocolError(f"{name}: got {got}; wanted a {kind.__name__} there")
    return value


def _parameters(thing: dict[str, Any]) -> dict[str, Any]:
    return _field(thing, "parameters", dict) if "parameters" in thing else {}
