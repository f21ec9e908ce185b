# SPDX-License-Identifier: Apache-2.0
"""The orders a result answers."""

from __future__ import annotations

import pytest

from profiles.answered_orders import OrderNumber, answered_requests
from profiles.dicom_json import DicomJson, element, merged
from tests.reported import request_item, workitem


@pytest.mark.parametrize(
    ("items", "accession", "fillers"),
    [
        pytest.param([request_item()], "ACC-77", ["FIL-1"], id="of the accession number"),
        pytest.param([request_item()], "", ["FIL-1"], id="a report without one"),
        pytest.param([request_item(AccessionNumber="")], "ACC-77", ["FIL-1"], id="an order without one"),
        pytest.param([request_item()], "OTHER", [], id="of another one"),
        pytest.param([request_item(), request_item()], "ACC-77", ["FIL-1"], id="twice"),
        pytest.param(
            [request_item(), request_item(FillerOrderNumberImagingServiceRequest="FIL-2")],
            "ACC-77",
            ["FIL-1", "FIL-2"],
            id="two under one accession number",
        ),
        pytest.param([merged([element("RequestedProcedureID", "RP")])], "", [], id="without a number"),
        pytest.param([], "ACC-77", [], id="none"),
    ],
)
def test_the_report_decides_which(items: list[DicomJson], accession: str, fillers: list[str]) -> None:
    found = answered_requests(workitem(*items), accession)
    assert [request.filler.value for request in found] == fillers


def test_issuers_are_a_universal_id_else_a_namespace() -> None:
    local = element("LocalNamespaceEntityID", "RIS")
    both = merged([local, element("UniversalEntityID", "1.2.3")])
    item = merged(
        [
            request_item(),
            element("OrderFillerIdentifierSequence", local),
            element("OrderPlacerIdentifierSequence", both),
        ]
    )
    (found,) = answered_requests(workitem(item), "")
    assert found.numbers == (
        OrderNumber(value="ACC-77"),
        OrderNumber(value="FIL-1", issuer="RIS"),
        OrderNumber(value="PLC-1", issuer="1.2.3"),
    )
