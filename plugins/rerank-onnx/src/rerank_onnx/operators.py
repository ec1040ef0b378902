"""Which operator makes an output of a graph, read from its file without the package onnx.

A file is a ``ModelProto`` of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto in protobuf's wire format.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_MODEL_GRAPH: Final = 7
_GRAPH_NODE: Final = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_SAME_NUMBERS: Final = frozenset(
    ("Cast", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
)
"""Operators whose output holds numbers of their first input, in another type, shape or choice."""


def last_operator(file: Path, output: str) -> str | None:
    """The operator that computes an output, such as ``Sigmoid``; None if no node of the graph makes it.

    Args:
        file: The ``.onnx`` file; weights in it are passed over.
        output: The output's name.
    """
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        makers = dict(_makers(content))
    operator = None
    while output in makers:
        operator, source = makers.pop(output)
        if operator not in _SAME_NUMBERS or source is None:
            return operator
        output = source
    return operator


def _makers(content: mmap.mmap) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """For each output of each node, its operator and the node's first input."""
    for field, *graph in _fields(content, 0, len(content)):
        if field != _MODEL_GRAPH:
            continue
        for part, *node in _fields(content, *graph):
            if part != _GRAPH_NODE:
                continue
            texts: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_OPERATOR: []}
            for kind, start, end in _fields(content, *node):
                if kind in texts:
                    texts[kind].append(content[start:end].decode())
            source = next(iter(texts[_NODE_INPUT]), None)
            for name in texts[_NODE_OUTPUT]:
                yield name, (texts[_NODE_OPERATOR][0], source)


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The number of each field of bytes in a message, and where its value starts and ends."""
    while start < end:
        tag, start = _read_varint(content, start)
        field, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            size, start = _read_varint(content, start)
            yield field, start, start + size
            start += size
        elif wire == _VARINT:
            _, start = _read_varint(content, start)
        else:
            start += {_FIXED64: 8, _FIXED32: 4}[wire]


def _read_varint(content: mmap.mmap, start: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, start
