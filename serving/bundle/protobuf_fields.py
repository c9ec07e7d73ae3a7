"""The fields of a protobuf message without a schema: read without copies, from senders that are not trusted; written.

https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterable, Iterator

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


def write_field(number: int, content: str | bytes | memoryview) -> bytes:
    """A field with text, bytes or a message."""
    data = content.encode() if isinstance(content, str) else bytes(content)
    return write_varint(number << 3 | 2) + write_varint(len(data)) + data


def write_number(number: int, value: int) -> bytes:
    """A field with a number."""
    return write_varint(number << 3) + write_varint(value)


def write_varint(value: int) -> bytes:
    """A number of 7 bits a byte."""
    value %= 2**64  # negative numbers are their two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_numbers(values: Iterable[Value], most: int) -> list[int]:
    """A repeated field of whole numbers, packed or not, up to `most` of them. errors: NotProtobufError"""
    read: list[int] = []
    for value in values:
        position = 0
        while len(read) < most and not isinstance(value, int) and position < len(value):
            number, position = read_varint(value, position)
            read.append(number)
        if isinstance(value, int) and len(read) < most:
            read.append(value)
    return [number - 2**64 if number >= 2**63 else number for number in read]
