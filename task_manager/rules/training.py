# SPDX-License-Identifier: Apache-2.0
"""From a table of labelled headers to a series classifier, and how well it does.

Columns are attributes in the words of the rule language; ``label`` says what a series is, ``group``, which
may be left out, which rows belong together, such as those of one patient: testing then never meets what
training saw. What tells who a patient is, and UIDs, are refused as columns.
"""

from __future__ import annotations

import csv
import io
import math
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from profiles.faults import Fault
from task_manager.errors import InputError
from task_manager.rules.attributes import UnknownAttributeError
from task_manager.rules.boosting import Boosting, Floats, grow_forest
from task_manager.rules.comparison import number
from task_manager.rules.learned import (
    MOST_FEATURES,
    Feature,
    FeatureKind,
    load_classifier,
    reference_of,
    words_of,
)
from task_manager.rules.onnx_trees import onnx_model

LABEL, GROUP = "label", "group"
_FOLDS = 5
_MOST_ROWS = 200_000
_MOST_CELLS = 20_000_000
_LEAST_ROWS = 2
_MOST_LABELS = 100
_NUMERIC_SHARE = 0.9
_LEAST_WORD_ROWS = 2
_MOST_WORDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTable:
    """Rows of headers; cells of several values are separated by backslashes, as in DICOM."""

    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[str, ...], ...], ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model and what cross-validation says of it.

    Attributes
    ----------
    model
        Bytes of the ONNX file.
    tested
        (label, said, probability) of every row, each by a model that had not seen its group.
    """

    model: bytes
    features: tuple[Feature, ...]
    labels: tuple[str, ...]
    tested: tuple[tuple[str, str, float], ...]

    def share_right(self, confidence: float) -> tuple[float, float]:
        """Of all rows the share answered with `confidence`, and of these the share that is right."""
        answered = [(label, said) for label, said, chance in self.tested if chance >= confidence]
        right = sum(label == said for label, said in answered)
        return len(answered) / len(self.tested), right / len(answered) if answered else math.nan


def read_table(text: str, source: str) -> LabelledTable:
    """The table in the text of a CSV file with a line of column names.

    Raises
    ------
    InputError
        With every fault: columns that are no attributes, rows without a label or of another length, too few
        labels.
    """
    faults: list[Fault] = []
    reader = csv.reader(io.StringIO(text))
    try:
        names = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise InputError(Fault(f"{source}:{reader.line_num}", f"no valid CSV: {error}")) from error
    if LABEL not in names:
        raise InputError(Fault(f"{source}:1", f"there is no column {LABEL!r}"))
    columns = [name for name in names if name not in (LABEL, GROUP)]
    faults += [
        Fault(f"{source}:1", f"column {name!r} is given twice") for name, n in Counter(names).items() if n > 1
    ]
    for name in columns:
        try:
            reference_of(name)
        except UnknownAttributeError as error:
            faults.append(Fault(f"{source}:1 {name}", str(error)))
    rows, labels, groups = [], [], []
    for line_number, line in lines[: _MOST_ROWS + 1]:
        cells = dict(zip(names, line, strict=False))
        if len(line) != len(names):
            faults.append(Fault(f"{source}:{line_number}", f"has {len(line)} cells, not {len(names)}"))
        elif not cells[LABEL].strip():
            faults.append(Fault(f"{source}:{line_number} {LABEL}", "is empty"))
        labels.append(cells.get(LABEL, "").strip())
        groups.append(cells.get(GROUP, "").strip() or f"row {line_number}")
        rows.append(tuple(_values(cells.get(name, "")) for name in columns))
    if not columns:
        faults.append(Fault(f"{source}:1", "there is no column but the label"))
    if len(lines) > _MOST_ROWS:
        faults.append(Fault(source, f"more than {_MOST_ROWS} rows"))
    counts = Counter(labels)
    if not 2 <= len(counts) <= _MOST_LABELS:
        faults.append(
            Fault(f"{source} {LABEL}", f"{len(counts)} different labels; there must be 2 to {_MOST_LABELS}")
        )
    faults += [
        Fault(f"{source} {LABEL}", f"{label!r} has fewer than {_LEAST_ROWS} rows")
        for label, n in counts.items()
        if label and n < _LEAST_ROWS
    ]
    if faults:
        raise InputError(*faults)
    return LabelledTable(columns=tuple(columns), rows=tuple(rows), labels=tuple(labels), groups=tuple(groups))


def train(table: LabelledTable, how: Boosting | None = None) -> Trained:
    """A classifier of the table; the same table always gives the same bytes.

    Raises
    ------
    InputError
        If the columns hold nothing to learn from.
    """
    how = how or Boosting()
    features = features_of(table)
    if not features:
        raise InputError(Fault("columns", "they hold no number and no word that several rows share"))
    if len(features) * len(table.rows) > _MOST_CELLS:
        raise InputError(Fault("columns", f"{len(features)} features of {len(table.rows)} rows are too many"))
    labels = tuple(sorted(set(table.labels)))
    classes = np.array([labels.index(label) for label in table.labels], dtype=np.int64)
    rows = _rows(table, features)
    return Trained(
        model=onnx_model(grow_forest(rows, classes, len(labels), how), features, labels),
        features=features,
        labels=labels,
        tested=_tested(table, features, labels, rows, classes, how),
    )


def features_of(table: LabelledTable) -> tuple[Feature, ...]:
    """What is made of the columns: a number, or words that are neither rare nor everywhere."""
    found: list[Feature] = []
    for at, name in enumerate(table.columns):
        column = [row[at] for row in table.rows]
        filled = [values for values in column if values]
        if not filled:
            continue
        if len(filled) < len(column):
            found.append(Feature(attribute=name, kind=FeatureKind.EXISTS))
        numeric = sum(number(values[0]) is not None for values in filled)
        if numeric >= _NUMERIC_SHARE * len(filled):
            found.append(Feature(attribute=name, kind=FeatureKind.NUMBER))
            continue
        words = Counter(word for values in filled for word in words_of(values))
        common = [(-n, word) for word, n in words.items() if _LEAST_WORD_ROWS <= n < len(table.rows)]
        found += [
            Feature(attribute=name, kind=FeatureKind.WORD, word=word)
            for _, word in sorted(common)[:_MOST_WORDS]
        ]
    return tuple(found[:MOST_FEATURES])


def _rows(table: LabelledTable, features: Sequence[Feature]) -> Floats:
    places = {name: at for at, name in enumerate(table.columns)}
    content = [[feature.value(row[places[feature.attribute]]) for feature in features] for row in table.rows]
    # as float32, which is what the model is given
    return np.array(content, dtype=np.float32).astype(np.float64)


def _tested(
    table: LabelledTable,
    features: tuple[Feature, ...],
    labels: tuple[str, ...],
    rows: Floats,
    classes: NDArray[np.int64],
    how: Boosting,
) -> tuple[tuple[str, str, float], ...]:
    """What models say of rows they were not trained on; groups stay together."""
    folds = np.array([zlib.crc32(group.encode()) % _FOLDS for group in table.groups])
    said: list[tuple[str, str, float]] = [(label, "", 0.0) for label in table.labels]
    for fold in range(_FOLDS):
        held = np.flatnonzero(folds == fold)
        kept = np.flatnonzero(folds != fold)
        if not len(held) or not len(kept):
            continue
        forest = grow_forest(rows[kept], classes[kept], len(labels), how)
        model = load_classifier(onnx_model(forest, features, labels))
        answers = model.classify_rows(rows[held].astype(np.float32))
        for at, (label, chance) in zip(held, answers, strict=True):
            said[at] = (table.labels[at], label, chance)
    return tuple(said)


def _values(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split("\\") if part.strip())
