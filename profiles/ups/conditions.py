# SPDX-License-Identifier: Apache-2.0
"""The decidable conditions of type 1C attributes, as predicates over the item they stand in.

The words of each condition are in ``table.py``; conditions that no software can decide (is the performer
known?) have no predicate and are not enforced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from profiles.dicom_json import DicomJson, items, tag_key, text
from profiles.ups.table import Condition

_NON_PATIENT_SOP_CLASSES = frozenset(
    {
        "1.2.840.10008.5.1.4.38.1",  # Hanging Protocol
        "1.2.840.10008.5.1.4.39.1",  # Color Palette
        "1.2.840.10008.5.1.4.43.1",  # Generic Implant Template
        "1.2.840.10008.5.1.4.44.1",  # Implant Assembly Template
        "1.2.840.10008.5.1.4.45.1",  # Implant Template Group
        "1.2.840.10008.5.1.4.1.1.200.1",  # CT Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.200.3",  # Protocol Approval
        "1.2.840.10008.5.1.4.1.1.200.7",  # XA Defined Procedure Protocol
        "1.2.840.10008.5.1.4.1.1.201.1",  # Inventory
    }
)
"""Storage SOP classes whose IODs have neither a Study nor a Series IE (PS3.4 GG.3)."""

_RETRIEVALS = (
    "DICOMRetrievalSequence",
    "DICOMMediaRetrievalSequence",
    "WADORetrievalSequence",
    "XDSRetrievalSequence",
    "WADORSRetrievalSequence",
)
_STORAGES = ("DICOMStorageSequence", "STOWRSStorageSequence", "XDSStorageSequence")


_TYPE_OF_INSTANCES = tag_key("TypeOfInstances")

Test = Callable[[DicomJson, DicomJson], bool]
"""Tells something of an item and what contains it."""


def _having(*keywords: str, otherwise: bool = False) -> Test:
    """A test whether an item has a value of one of the attributes; `otherwise`: of none."""
    tags = tuple(tag_key(keyword) for keyword in keywords)

    def test(item: DicomJson, container: DicomJson) -> bool:
        del container
        for tag in tags:
            element = item.get(tag)
            if element is not None and element.get("Value"):
                return not otherwise
        return otherwise

    return test


def _is_cda(item: DicomJson, container: DicomJson) -> bool:
    del item
    element = container.get(_TYPE_OF_INSTANCES)
    return element is not None and element.get("Value") == ["CDA"]


def _is_dicom_of_patients(item: DicomJson, container: DicomJson) -> bool:
    if text(item, "TypeOfInstances") != "DICOM":
        return False
    references = items(item, "ReferencedSOPSequence")
    return not references or any(
        text(reference, "ReferencedSOPClassUID") not in _NON_PATIENT_SOP_CLASSES for reference in references
    )


def _value_type(name: str) -> Test:
    tag, value = tag_key("ValueType"), [name]

    def test(item: DicomJson, container: DicomJson) -> bool:
        del container
        element = item.get(tag)
        return element is not None and element.get("Value") == value

    return test


_REQUIRED: Mapping[Condition, Test] = {
    Condition.CODE_NEEDED: _having("LongCodeValue", "URNCodeValue", otherwise=True),
    Condition.SCHEME_NEEDED: _having("CodeValue", "LongCodeValue"),
    Condition.VERSION_NEEDS_SCHEME: lambda item, container: False,
    Condition.IS_DATETIME: _value_type("DATETIME"),
    Condition.IS_DATE: _value_type("DATE"),
    Condition.IS_TIME: _value_type("TIME"),
    Condition.IS_PNAME: _value_type("PNAME"),
    Condition.IS_UIDREF: _value_type("UIDREF"),
    Condition.IS_TEXT: _value_type("TEXT"),
    Condition.IS_CODE: _value_type("CODE"),
    Condition.IS_NUMERIC: _value_type("NUMERIC"),
    Condition.HAS_STUDY: _is_dicom_of_patients,
    Condition.HAS_SERIES: _is_dicom_of_patients,
    Condition.IS_CDA: _is_cda,
    Condition.RETRIEVAL_NEEDED: _having(*_RETRIEVALS, otherwise=True),
    Condition.NAMESPACE_NEEDED: _having("UniversalEntityID", otherwise=True),
    Condition.ENTITY_TYPE_NEEDED: _having("UniversalEntityID"),
    Condition.STORAGE_NEEDED: _having(*_STORAGES, otherwise=True),
}


def condition_test(condition: Condition) -> Test:
    """The test whether `condition` makes its attribute needed in an item, given that and what contains it."""
    return _REQUIRED[condition]


def is_forbidden(condition: Condition, item: DicomJson) -> bool:
    """Whether an attribute under `condition` may not stand in `item` (PS3.3 8.1: scheme version)."""
    return condition is Condition.VERSION_NEEDS_SCHEME and _HAS_NO_SCHEME(item, {})


_HAS_NO_SCHEME = _having("CodingSchemeDesignator", otherwise=True)
