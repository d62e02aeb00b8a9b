"""The protobuf encoding, as far as the ports of a model file are read and written by it, without loading its weights."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

__all__ = ["Buffer", "as_varint", "fields", "message", "text", "varint"]

Buffer = mmap.mmap | bytes
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(data: Buffer, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, start, stop) of byte fields and (field number, value, 0) of integer ones."""
    position = start
    while position < stop:
        key, position = varint(data, position)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ValueError("field number 0")
        if wire == _VARINT:
            value, position = varint(data, position)
            yield number, value, 0
        elif wire == _BYTES:
            size, position = varint(data, position)
            if position + size > stop:
                raise ValueError("field beyond its message")
            yield number, position, position + size
            position += size
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
    if position != stop:
        raise ValueError("message ends inside a field")


def varint(data: Buffer, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def text(data: Buffer, start: int, stop: int) -> str:
    return data[start:stop].decode("utf-8")


def as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(number: int, content: bytes) -> bytes:
    """Field `number` holding `content`: a message, a text or bytes."""
    return as_varint(number << 3 | _BYTES) + as_varint(len(content)) + content
