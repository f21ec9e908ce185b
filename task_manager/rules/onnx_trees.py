# SPDX-License-Identifier: Apache-2.0
"""A forest as an ONNX model: one TreeEnsembleRegressor (ai.onnx.ml 3), written as protocol buffers.

Only the few messages that this one model needs are written here, so that training a classifier asks for no
package beside those that run it. A regressor of one score per class, as the classifier's operator has a way
of its own with two classes. Field numbers are those of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from task_manager.rules.boosting import Forest
from task_manager.rules.learned import INPUT, METADATA_KEY, PROBABILITIES, Feature

_IR_VERSION, _OPSET, _ML_OPSET = 8, 15, 3
_FLOAT = 1  # TensorProto.DataType
_INTS, _FLOATS, _STRINGS, _INT, _TEXT = 7, 6, 8, 2, 3  # AttributeProto.AttributeType


@dataclass(slots=True)
class _Columns:
    """The attributes of the operator, a list each."""

    tree: list[int] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    mode: list[str] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    leaf_tree: list[int] = field(default_factory=list)
    leaf_node: list[int] = field(default_factory=list)
    leaf_class: list[int] = field(default_factory=list)
    leaf_weight: list[float] = field(default_factory=list)


def onnx_model(forest: Forest, features: Sequence[Feature], labels: Sequence[str]) -> bytes:
    """The bytes of the model file; `labels` in the order of the forest's classes."""
    told = {
        "features": [
            {"attribute": one.attribute, "kind": one.kind.value, **({"word": one.word} if one.word else {})}
            for one in features
        ],
        "labels": list(labels),
    }
    graph = b"".join(
        (
            _message(1, _operator(forest)),
            _text(2, "series-classifier"),
            _message(11, _value(INPUT, ("rows", len(features)))),
            _message(12, _value(PROBABILITIES, ("rows", len(labels)))),
        )
    )
    return b"".join(
        (
            _integer(1, _IR_VERSION),
            _text(2, "airway"),
            _message(7, graph),
            _message(8, _text(1, "") + _integer(2, _OPSET)),
            _message(8, _text(1, "ai.onnx.ml") + _integer(2, _ML_OPSET)),
            _message(14, _text(1, METADATA_KEY) + _text(2, json.dumps(told))),
        )
    )


def _operator(forest: Forest) -> bytes:
    columns = _columns(forest)
    attributes = (
        _floats("base_values", forest.base),
        _text(1, "n_targets") + _integer(3, len(forest.base)) + _integer(20, _INT),
        _ints("nodes_falsenodeids", columns.false),
        _ints("nodes_featureids", columns.feature),
        _ints("nodes_missing_value_tracks_true", columns.missing),
        _texts("nodes_modes", columns.mode),
        _ints("nodes_nodeids", columns.node),
        _ints("nodes_treeids", columns.tree),
        _ints("nodes_truenodeids", columns.true),
        _floats("nodes_values", columns.value),
        _text(1, "aggregate_function") + _text(4, "SUM") + _integer(20, _TEXT),
        _text(1, "post_transform") + _text(4, "SOFTMAX") + _integer(20, _TEXT),
        _ints("target_ids", columns.leaf_class),
        _ints("target_nodeids", columns.leaf_node),
        _ints("target_treeids", columns.leaf_tree),
        _floats("target_weights", columns.leaf_weight),
    )
    return b"".join(
        (
            _text(1, INPUT),
            _text(2, PROBABILITIES),
            _text(4, "TreeEnsembleRegressor"),
            *(_message(5, attribute) for attribute in attributes),
            _text(7, "ai.onnx.ml"),
        )
    )


def _columns(forest: Forest) -> _Columns:
    columns = _Columns()
    for tree_number, (class_number, tree) in enumerate(forest.trees):
        for number, node in enumerate(tree):
            columns.tree.append(tree_number)
            columns.node.append(number)
            columns.feature.append(max(node.feature, 0))
            columns.value.append(node.threshold)
            columns.mode.append("LEAF" if node.is_leaf else "BRANCH_LEQ")
            columns.true.append(max(node.left, 0))
            columns.false.append(max(node.right, 0))
            columns.missing.append(int(node.missing_left))
            if node.is_leaf:
                columns.leaf_tree.append(tree_number)
                columns.leaf_node.append(number)
                columns.leaf_class.append(class_number)
                columns.leaf_weight.append(node.weight)
    return columns


def _value(name: str, shape: Iterable[int | str]) -> bytes:
    dimensions = b"".join(
        _message(1, _text(2, one) if isinstance(one, str) else _integer(1, one)) for one in shape
    )
    tensor = _integer(1, _FLOAT) + _message(2, dimensions)
    return _text(1, name) + _message(2, _message(1, tensor))


def _ints(name: str, values: Iterable[int]) -> bytes:
    return _text(1, name) + _message(8, b"".join(map(_varint, values))) + _integer(20, _INTS)


def _floats(name: str, values: Sequence[float]) -> bytes:
    return _text(1, name) + _message(7, struct.pack(f"<{len(values)}f", *values)) + _integer(20, _FLOATS)


def _texts(name: str, values: Iterable[str]) -> bytes:
    return _text(1, name) + b"".join(_text(9, value) for value in values) + _integer(20, _STRINGS)


def _text(number: int, value: str) -> bytes:
    return _message(number, value.encode())


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)
