# SPDX-License-Identifier: Apache-2.0
"""What is looked at first, to be fast, decides as the plain reading of the table and of the VRs does."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from profiles.dicom_json import DicomJson, element, merged, tag_key, values
from profiles.ups.attributes import ENUMERATED_VALUES, TOP_ROWS
from profiles.ups.conditions import condition_test, is_forbidden
from profiles.ups.dataset import entry, read_dataset
from profiles.ups.table import Row
from task_manager.outcome import Refused
from task_manager.workitem.validate import checked_create, checked_update
from tests.contract.workitems import code, instances, minimal, performed, progress, request

_EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True)
_TEXTS = st.one_of(st.text(max_size=80), st.text(alphabet="A1.09 \\\x00\t\n_aÄ/:-", max_size=70))


def _whole() -> DicomJson:
    return merged(
        [
            minimal(
                ScheduledWorkitemCodeSequence=code(),
                ScheduledStationNameCodeSequence=(code("S1"), code("S2")),
                InputInformationSequence=instances(),
                ReferencedRequestSequence=(request(), request(AccessionNumber="A2")),
                PatientID="P1",
                StudyInstanceUID="1.2.3",
            ),
            performed(),
            progress(ProcedureStepProgress="5"),
        ]
    )


def _places(item: DicomJson) -> Iterator[tuple[DicomJson, str]]:
    for tag, attribute in item.items():
        yield item, tag
        for nested in attribute.get("Value", ()) if attribute["vr"] == "SQ" else ():
            yield from _places(nested)


_HOW_MANY = sum(1 for _ in _places(_whole()))


@st.composite
def _changed(draw: st.DrawFn) -> DicomJson:
    """A whole workitem with some attributes left out, emptied, given twice or given other text."""
    whole = copy.deepcopy(_whole())
    for at in draw(st.lists(st.integers(0, _HOW_MANY - 1), min_size=1, max_size=4)):
        places = list(_places(whole))
        item, tag = places[at % len(places)]
        found = item[tag]
        match draw(st.integers(0, 4)):
            case 0:
                del item[tag]
            case 1:
                found.pop("Value", None)
            case 2:
                found["Value"] = found.get("Value", []) * 2
            case 3 if found["vr"] != "SQ":
                found["Value"] = [draw(_TEXTS)]
            case _:
                item.update(element("CodingSchemeVersion", "1"))
    return whole


@given(_changed())
@_EXAMPLES
def test_an_element_is_read_alike_with_its_vr_and_without(payload: DicomJson) -> None:
    bare = orjson.loads(orjson.dumps(payload))
    for item, tag in list(_places(bare)):
        if tag in item and item[tag]["vr"] == entry(tag).vrs[0] != "SQ":
            item[tag].pop("vr")  # which is then looked up, and the value looked at closely
    assert read_dataset(payload) == read_dataset(bare)


@given(_changed(), st.booleans())
@_EXAMPLES
def test_faults_are_those_of_the_table_read_row_by_row(payload: DicomJson, creating: bool) -> None:
    read = read_dataset(payload)
    if read.faults:
        return
    before = orjson.dumps(payload)
    outcome = checked_create("2.25.1", payload) if creating else checked_update(payload)
    assert orjson.dumps(payload) == before
    expected = set(_faults(read.attributes, TOP_ROWS, {}, "", creating=creating))
    found = {fault.path for fault in outcome.faults} if isinstance(outcome, Refused) else set()
    assert found == expected


def _faults(
    item: DicomJson, rows: tuple[Row, ...], container: DicomJson, prefix: str, *, creating: bool
) -> Iterator[str]:
    """Paths at fault, by every row of the table in turn."""
    for row in rows:
        tag, path = tag_key(row.keyword), prefix + row.keyword
        requirement = row.create if creating else row.update
        needed = requirement.startswith("1/") or bool(
            requirement.startswith("1C") and row.when and condition_test(row.when)(item, container)
        )
        found: list[Any] = values(item, row.keyword)
        if tag not in item:
            if needed:
                yield path
        elif requirement == "NA":
            yield path
        elif not found:
            if needed or (not creating and requirement == "3/1" and not prefix):
                yield path
        elif (creating and row.empty_at_create) or (row.when and is_forbidden(row.when, item)):
            yield path
        else:
            if len(found) > (row.max_items or len(found)):
                yield path
            if not ENUMERATED_VALUES.get(tag, frozenset(map(str, found))).issuperset(map(str, found)):
                yield path
            for index, nested in enumerate(found if row.items else ()):
                yield from _faults(nested, row.items, item, f"{path}[{index}].", creating=creating)
