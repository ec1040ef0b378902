"""What a graph's file says before it runs: which operator makes an output, and in which other files its weights lie.

It is read without the package onnx: a file is a ``ModelProto`` of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto in protobuf's wire format.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PARTS: Final = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""The messages that may lead to a tensor, by their fields; an entry of a tensor says where its numbers lie."""

_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_MODEL_GRAPH: Final = 7
_GRAPH_NODE: Final = 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_SAME_NUMBERS: Final = frozenset(
    ("Cast", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
)
"""Operators whose output holds numbers of their first input, in another type, shape or choice."""


def external_files(file: Path) -> frozenset[str]:
    """The files that hold weights of a graph, relative to its own, as it names them.

    Args:
        file: The ``.onnx`` file.

    Raises:
        ValueError: It is no graph.
    """
    if not file.stat().st_size:  # which cannot be mapped
        return frozenset()
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return frozenset(_locations(content, "model", 0, len(content)))
    except (IndexError, KeyError, RecursionError) as error:
        raise ValueError(f"it breaks off or is no protobuf ({type(error).__name__})") from error


def _locations(content: mmap.mmap, message: str, start: int, end: int) -> Iterator[str]:
    if message == "entry":
        texts = {field: content[first:last].decode() for field, first, last in _fields(content, start, end)}
        if texts.get(_ENTRY_KEY) == "location":
            yield texts.get(_ENTRY_VALUE, "")
        return
    parts = _PARTS[message]
    for field, first, last in _fields(content, start, end):
        if field in parts:
            yield from _locations(content, parts[field], first, last)


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
