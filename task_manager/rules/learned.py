# SPDX-License-Identifier: Apache-2.0
"""The learned series classifier: features of header values, and the ONNX model that ``training.py`` wrote.

The model names its features itself, in the words of the rule language, so it sees in a study exactly what it
was trained on. It runs on one CPU thread; what it costs is far below reading a header.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from task_manager.rules.attributes import UnknownAttributeError, parse_reference
from task_manager.rules.comparison import number
from task_manager.rules.model import Reference
from task_manager.rules.onnx_graph import check_graph

METADATA_KEY = "airway.series_features"
INPUT, PROBABILITIES = "features", "probabilities"
MOST_FEATURES = 4096
_MOST_BYTES = 64 * 1024 * 1024
_FATAL = 4  # what is wrong with a model is told by us
_WORD = re.compile(r"[a-z]+|[0-9]+", re.ASCII)
_MOST_CHARACTERS = 1024


class FeatureKind(StrEnum):
    """What is made of the values of an attribute."""

    NUMBER = "number"
    WORD = "word"
    EXISTS = "exists"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One number of the model's input.

    Attributes
    ----------
    attribute
        In the words of the rule language; a private one as ``tag@creator``.
    word
        For WORD: 1 if the values hold this word, else 0.
    """

    attribute: str
    kind: FeatureKind
    word: str = ""

    def value(self, values: Sequence[str]) -> float:
        """The feature of the values of its attribute; NaN for a number that is missing."""
        match self.kind:
            case FeatureKind.EXISTS:
                return 1.0 if values else 0.0
            case FeatureKind.WORD:
                return 1.0 if self.word in words_of(values) else 0.0
            case FeatureKind.NUMBER:
                return next((found for one in values if (found := number(one)) is not None), math.nan)


def words_of(values: Sequence[str]) -> frozenset[str]:
    """The words and numbers in texts, in lower case."""
    return frozenset(_WORD.findall(" ".join(values)[:_MOST_CHARACTERS].lower()))


def reference_of(attribute: str) -> Reference:
    """What a feature's attribute refers to.

    Raises
    ------
    UnknownAttributeError
        If there is no such attribute, or it tells who a patient is and not what a series is.
    """
    name, _, creator = attribute.partition("@")
    reference = parse_reference(name, creator)
    if reference.is_about_patient or reference.vr == "UI" or reference.order_field:
        raise UnknownAttributeError(
            f"{attribute} tells who or which, not what: a classifier must not learn it"
        )
    return reference


class OnnxClassifier:
    """A classifier in an ONNX file; see :func:`open_classifier`."""

    def __init__(self, session: Any, features: Sequence[Feature], labels: tuple[str, ...]) -> None:
        self._session = session
        self._features = [(feature, reference_of(feature.attribute)) for feature in features]
        self._labels = labels

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label it can give."""
        return self._labels

    def classify(self, look: Callable[[Reference], tuple[str, ...]]) -> tuple[str, float]:
        """The likeliest label and its probability; `look` gives the values of an attribute."""
        row = np.array(
            [[feature.value(look(reference)) for feature, reference in self._features]], np.float32
        )
        return self.classify_rows(row)[0]

    def classify_rows(self, rows: NDArray[np.float32]) -> list[tuple[str, float]]:
        """Label and probability of each row of features, shape (rows, features)."""
        (probabilities,) = self._session.run([PROBABILITIES], {INPUT: rows})
        best = probabilities.argmax(axis=1)
        return [(self._labels[at], float(row[at])) for at, row in zip(best, probabilities, strict=True)]


def open_classifier(path: Path) -> OnnxClassifier:
    """The classifier in a file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is none that ``airway rules train`` wrote.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES >> 20} MiB")
    return load_classifier(path.read_bytes())


def load_classifier(content: bytes) -> OnnxClassifier:
    """The classifier in the bytes of a file; see :func:`open_classifier`."""
    # onnxruntime would else write a device id and a telemetry database into the home folder
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime  # takes a moment to load, and few sites have a classifier

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    try:
        check_graph(content)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        told = json.loads(session.get_modelmeta().custom_metadata_map[METADATA_KEY])
        features = [
            Feature(
                attribute=str(one["attribute"]), kind=FeatureKind(one["kind"]), word=str(one.get("word", ""))
            )
            for one in told["features"]
        ]
        labels = tuple(str(one) for one in told["labels"])
        found = OnnxClassifier(session, features, labels)
        (probabilities,) = session.run([PROBABILITIES], {INPUT: np.zeros((1, len(features)), np.float32)})
    except UnknownAttributeError:
        raise
    except Exception as error:
        raise ValueError(f"it was not written by `airway rules train` ({type(error).__name__})") from error
    if probabilities.shape != (1, len(labels)) or len(features) > MOST_FEATURES:
        raise ValueError("its inputs or outputs do not fit what it says of itself")
    return found
