# SPDX-License-Identifier: Apache-2.0
"""What a model file would have run, looked at before anything runs it.

ONNX can say loops without end and tensors of any size in a few bytes. A classifier of ours is one operator,
so nothing else is taken. Field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator

OPERATOR = "TreeEnsembleRegressor"
_GRAPH, _FUNCTIONS = 7, 25  # ModelProto
_NODE, _INITIALIZER, _SPARSE_INITIALIZER = 1, 5, 15  # GraphProto
_OPERATOR = 4  # NodeProto


def check_graph(model: bytes) -> None:
    """Look whether a model is one tree ensemble and nothing else.

    Raises
    ------
    ValueError
        If it is not, or is no protocol buffer.
    """
    graphs = []
    for number, content in _fields(memoryview(model)):
        if number == _GRAPH:
            graphs.append(content)
        elif number == _FUNCTIONS:
            raise ValueError("the model has functions")
    if len(graphs) != 1:
        raise ValueError("the model has not one graph")
    operators = []
    for number, content in _fields(graphs[0]):
        if number in (_INITIALIZER, _SPARSE_INITIALIZER):
            raise ValueError("the model holds tensors")
        if number == _NODE:
            operators += [bytes(name) for field, name in _fields(content) if field == _OPERATOR]
    if operators != [OPERATOR.encode()]:
        raise ValueError("the model is not one tree ensemble")


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field; no content but for those with a length."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        size = 0
        match key & 7:
            case 0:
                _, at = _varint(content, at)
            case 1:
                size = 8
            case 2:
                size, at = _varint(content, at)
            case 5:
                size = 4
            case _:
                raise ValueError("a field of no known kind")
        if at + size > len(content):
            raise ValueError("a field does not end within the model")
        yield key >> 3, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    found = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            return found, at
    raise ValueError("a number does not end")
