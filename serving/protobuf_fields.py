"""The fields of a protobuf message, read without copies and without a schema, from senders that are not trusted.

https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator

Value = int | memoryview


class NotProtobufError(ValueError):
    """The bytes are not a protobuf message, or a field is of another kind."""


def fields(content: memoryview) -> Iterator[tuple[int, Value]]:
    """The number and the value of each field. Strings, messages and fixed-size numbers are views of their bytes."""
    position = 0
    while position < len(content):
        key, position = read_varint(content, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = read_varint(content, position)
            yield number, value
            continue
        if kind == 2:
            length, position = read_varint(content, position)
        else:
            length = {1: 8, 5: 4}.get(kind, -1)
        if not 0 <= length <= len(content) - position:
            raise NotProtobufError("a field goes beyond the end")
        yield number, content[position : position + length]
        position += length


def message(value: Value) -> memoryview:
    """A field that must be a message, a string or bytes. errors: NotProtobufError: it is a number"""
    if isinstance(value, int):
        raise NotProtobufError("got a number instead of a message")
    return value


def read_varint(content: memoryview, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            raise NotProtobufError("a number goes beyond the end")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise NotProtobufError("a number has more than 64 bits")
