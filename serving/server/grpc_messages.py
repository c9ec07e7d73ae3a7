"""The messages of the Open Inference Protocol's gRPC service, from protobuf's bytes and back.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_grpc.md

They are read field by field, without protobuf's library: it would make an object of each of the millions of empty
messages that 20 MB can hold, and a Python number of each sample.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.bundle.protobuf_fields import (
    NotProtobufError,
    Value,
    fields,
    message,
    read_numbers,
    write_field,
    write_varint,
)
from serving.server.tensors import DATATYPE, INPUT, OUTPUT, Inference, ProtocolError, check_inference

MAX_FIELDS = 1000  # of one message
MAX_TEXT_BYTES = 1000
MAX_SHAPE = 10  # numbers that are read; a shape has two
FP32_CONTENTS = 6  # of InferTensorContents

Parts = dict[int, list[Value]]


def read_model(content: bytes) -> tuple[str, str]:
    """The model's name and version in a ModelReadyRequest or a ModelMetadataRequest; "" if they are left out."""
    parts = _parts(memoryview(content), "the request")
    return _text(parts, 1), _text(parts, 2)


def read_model_infer(content: bytes, samples: int) -> tuple[str, str, Inference]:
    """The model's name and version and the windows in a ModelInferRequest.

    samples  in one of the model's windows
    errors   ProtocolError
    """
    parts = _parts(memoryview(content), "the request")
    inputs = [_parts(part, "inputs") for part in _bytes(parts, 5)]
    outputs = [_parts(part, "outputs") for part in _bytes(parts, 6)]
    raw = _bytes(parts, 7)
    request: dict[str, Any] = {
        "inputs": [
            {"name": _text(part, 1), "datatype": _text(part, 2), "shape": _shape(part), "parameters": _names(part, 4)}
            for part in inputs
        ],
        "outputs": [{"name": _text(part, 1), "parameters": _names(part, 2)} for part in outputs],
        "parameters": {"binary_data_output": bool(raw)},
    }
    if text := _text(parts, 3):
        request["id"] = text

    def values(tensor: dict[str, Any], shape: list[int]) -> NDArray[np.float32]:
        return _values(inputs[0], raw, shape[0] * shape[1])

    return _text(parts, 1), _text(parts, 2), check_inference(request, samples, values)


def write_flag(flag: bool) -> bytes:
    """A ServerLiveResponse, ServerReadyResponse or ModelReadyResponse."""
    return b"\x08\x01" if flag else b""


def write_server(name: str, version: str) -> bytes:
    """A ServerMetadataResponse of a server without extensions."""
    return _field(1, name) + _field(2, version)


def write_model(metadata: dict[str, Any]) -> bytes:
    """A ModelMetadataResponse. metadata: see `model_metadata`"""
    tensors = b"".join(
        _field(number, _field(1, tensor["name"]) + _field(2, tensor["datatype"]) + _write_shape(tensor["shape"]))
        for number, kind in ((4, "inputs"), (5, "outputs"))
        for tensor in metadata[kind]
    )
    properties = b"".join(_field(6, _field(1, name) + _field(2, str(v))) for name, v in metadata["parameters"].items())
    versions = b"".join(_field(2, version) for version in metadata["versions"])
    return _field(1, metadata["name"]) + versions + _field(3, metadata["platform"]) + tensors + properties


def write_model_infer(rows: NDArray[np.float32], inference: Inference, model: str, version: str) -> bytes:
    """A ModelInferResponse with the embeddings [n, size], as raw or as typed contents like the request's windows."""
    values = rows.astype("<f4").tobytes()
    tensor = _field(1, OUTPUT) + _field(2, DATATYPE) + _write_shape(list(rows.shape))
    if not inference.binary:
        tensor += _field(5, _field(FP32_CONTENTS, values))
    return (
        _field(1, model)
        + _field(2, version)
        + _field(3, inference.request_id or "")
        + _field(5, tensor)
        + (_field(6, values) if inference.binary else b"")
    )


def _parts(content: memoryview, name: str) -> Parts:
    """The fields of a message by their number."""
    parts: Parts = {}
    try:
        for number, value in _limited(content):
            parts.setdefault(number, []).append(value)
    except NotProtobufError as error:
        raise ProtocolError(f"{name} is no message of the protocol ({error})") from error
    return parts


def _bytes(parts: Parts, number: int) -> list[memoryview]:
    """The values of a field of strings, bytes or messages."""
    try:
        return [message(value) for value in parts.get(number, [])]
    except NotProtobufError as error:
        raise ProtocolError(f"field {number} is no field of the protocol ({error})") from error


def _limited(content: memoryview) -> Iterator[tuple[int, Value]]:
    for count, field in enumerate(fields(content), 1):
        if count > MAX_FIELDS:
            raise NotProtobufError(f"a message has more than {MAX_FIELDS} fields; pack the numbers of a tensor")
        yield field


def _text(parts: Parts, number: int) -> str:
    content = (_bytes(parts, number) or [memoryview(b"")])[-1]
    if len(content) > MAX_TEXT_BYTES:
        raise ProtocolError(f"field {number}: got text of {len(content)} bytes; wanted at most {MAX_TEXT_BYTES}")
    try:
        return bytes(content).decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"field {number}: got text that is not UTF-8") from error


def _names(parts: Parts, number: int) -> dict[str, bool]:
    """The names of parameters; their values do not matter here."""
    return {_text(_parts(entry, "parameters"), 1): True for entry in _bytes(parts, number)}


def _shape(parts: Parts) -> list[int]:
    """The shape of an input. More than its first numbers matter to no message."""
    try:
        return read_numbers(parts.get(3, []), MAX_SHAPE)
    except NotProtobufError as error:
        raise ProtocolError(f"{INPUT}: its shape is cut off") from error


def _values(tensor: Parts, raw: list[memoryview], n_values: int) -> NDArray[np.float32]:
    """The values of a tensor, from raw_input_contents or from its own fp32_contents."""
    contents = [_contents(part) for part in _bytes(tensor, 5)]
    if raw and contents:
        raise ProtocolError(f"{INPUT}: got raw_input_contents and contents; wanted one of them")
    if len(raw) > 1:
        raise ProtocolError(f"raw_input_contents: got {len(raw)} tensors; wanted one, {INPUT}")
    packed = raw or [part for parts in contents for part in parts]
    size = sum(map(len, packed))
    if size != 4 * n_values:
        raise ProtocolError(f"{INPUT}: got {size} bytes of values; wanted {4 * n_values} for {n_values} {DATATYPE}")
    return np.concatenate([np.frombuffer(part, "<f4") for part in packed]).astype(np.float32, copy=False)


def _contents(content: memoryview) -> list[memoryview]:
    parts = _parts(content, "contents")
    if set(parts) - {FP32_CONTENTS}:
        raise ProtocolError(f"{INPUT}: got contents of another type; wanted fp32_contents")
    packed = _bytes(parts, FP32_CONTENTS)
    if any(len(part) % 4 for part in packed):
        raise ProtocolError(f"{INPUT}: its fp32_contents is cut off")
    return packed


def _write_shape(shape: list[int]) -> bytes:
    return _field(3, b"".join(map(write_varint, shape)))


def _field(number: int, content: str | bytes) -> bytes:
    """A field with text, bytes or a message; empty content is left out, as the protocol's default."""
    return write_field(number, content) if content else b""
