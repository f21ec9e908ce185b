# SPDX-License-Identifier: Apache-2.0
"""UPS-RS Search: PS3.18 11.9 and 8.3."""

from __future__ import annotations

import pytest

from informatics_gateway.dicomweb.ups_query import SubscriptionWish, parse_subscription
from profiles.dicom_json import tag_key, text
from task_manager.actor import Actor
from tests.contract.workitems import minimal, request
from tests.contract.worklist import fill
from tests.unit.informatics_gateway.dicomweb.ups_web import (
    JSON_TYPE,
    UID,
    Web,
    paths,
    warnings,
)


@pytest.fixture
def web() -> Web:
    return Web()


# Search (11.9)


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        pytest.param("", ["high", "early", "late", "done"], id="all"),
        pytest.param("?ProcedureStepState=SCHEDULED", ["high", "early", "late"], id="keyword"),
        pytest.param("?00741000=IN%20PROGRESS", ["done"], id="tag"),
        pytest.param("?00741000=IN+PROGRESS", ["done"], id="plus-is-space"),
        pytest.param("?ReferencedRequestSequence.AccessionNumber=A7", ["late"], id="dotted-keywords"),
        pytest.param("?0040a370.00080050=A7", ["late"], id="dotted-tags"),
        pytest.param("?0040A370.00080050=A7&0040A370.00401001=other", [], id="two-keys-of-one-item"),
        pytest.param("?00404025.00080100=PERF2", ["early"], id="station"),
        pytest.param("?PatientID=P-*", ["high", "early"], id="wildcard"),
        pytest.param("?PatientName=M%C3%BCller*", ["early"], id="utf-8"),
        pytest.param("?00080018=2.25.11,2.25.13", ["high", "late"], id="uid-list"),
        pytest.param("?ScheduledProcedureStepStartDateTime=20260302-20260303", ["late"], id="range"),
        pytest.param(
            "?ScheduledProcedureStepStartDateTime=20260302080000%2B0000", ["late"], id="offset-encoded"
        ),
        pytest.param(
            "?ScheduledProcedureStepStartDateTime=20260302080000+0000", ["late"], id="offset-not-encoded"
        ),
        pytest.param(
            "?ScheduledProcedureStepStartDateTime=202603021000&TimezoneOffsetFromUTC=%2B0200",
            ["late"],
            id="time-in-another-zone",
        ),
        pytest.param(
            "?00080201=-0500&ScheduledProcedureStepStartDateTime=2026030203-2026030204",
            ["late"],
            id="range-in-another-zone",
        ),
        pytest.param(
            "?00080201=+0200&ScheduledProcedureStepStartDateTime=20260302080000%2B0000",
            ["late"],
            id="own-offset-wins",
        ),
        pytest.param(
            "?00080201=%2B0200&ScheduledProcedureStepStartDateTime=2026030208", [], id="not-in-that-zone"
        ),
        pytest.param("?PatientID=", ["high", "early", "late", "done"], id="universal"),
        pytest.param("?unknown=1&foo.bar=2", ["high", "early", "late", "done"], id="unknown-ignored"),
        pytest.param("?limit=2", ["high", "early"], id="limit"),
        pytest.param("?limit=2&offset=2", ["late", "done"], id="offset"),
        pytest.param("?fuzzymatching=false", ["high", "early", "late", "done"], id="no-fuzzy"),
    ],
)
def test_search(web: Web, query: str, labels: list[str]) -> None:
    fill(web.worklist)
    answer = web.ask("GET", f"/workitems{query}")
    if not labels:
        assert (answer.status_code, answer.content) == (204, b"")
        assert "content-type" not in answer.headers
        return
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON_TYPE)
    assert [text(one, "ProcedureStepLabel") for one in answer.json()] == labels


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        pytest.param("?limit=1", ["There are 3 additional results that can be requested"], id="more"),
        pytest.param(
            "?limit=1&offset=2", ["There are 1 additional results that can be requested"], id="page"
        ),
        pytest.param("?limit=4", [], id="exactly-all"),
        pytest.param("?limit=0", [], id="nothing-asked"),
        pytest.param("?offset=99999999999", [], id="beyond"),
        pytest.param(
            "?fuzzymatching=true&emptyvaluematching=true&multiplevaluematching=true",
            [
                "The fuzzymatching parameter is not supported. Only literal matching has been performed.",
                (
                    "The emptyvaluematching parameter is not supported. "
                    "Empty Value Matching has not been performed."
                ),
                (
                    "The multiplevaluematching parameter is not supported. "
                    "Multiple Value Matching has not been performed."
                ),
            ],
            id="modes",
        ),
    ],
)
def test_search_warnings(web: Web, query: str, expected: list[str]) -> None:
    fill(web.worklist)
    answer = web.ask("GET", f"/workitems{query}")
    assert answer.status_code in (200, 204)
    assert warnings(answer) == expected


@pytest.mark.parametrize(
    ("query", "path"),
    [
        pytest.param("limit=-1", "limit", id="negative"),
        pytest.param("limit=ten", "limit", id="no-number"),
        pytest.param("limit=1&limit=2", "limit", id="limit-twice"),
        pytest.param("offset=1.5", "offset", id="fraction"),
        pytest.param("offset=" + "9" * 40, "offset", id="endless-number"),
        pytest.param("limit=%D9%A1", "limit", id="other-digits"),
        pytest.param("fuzzymatching=yes", "fuzzymatching", id="boolean"),
        pytest.param("includefield=NoSuchThing", "includefield", id="includefield"),
        pytest.param("includefield=all,PatientID", "includefield", id="all-with-others"),
        pytest.param("PatientID=1&00100020=1", "PatientID", id="key-twice"),
        pytest.param("00081195=2.25.1", "TransactionUID", id="transaction-uid"),
        pytest.param("00404025=x", "ScheduledStationNameCodeSequence", id="sequence-with-value"),
        pytest.param("PatientID.PatientName=x", "PatientID.PatientName", id="through-no-sequence"),
        pytest.param("00404005=soon", "ScheduledProcedureStepStartDateTime", id="no-date"),
        pytest.param("TimezoneOffsetFromUTC=CET", "TimezoneOffsetFromUTC", id="no-offset"),
        pytest.param("00080018=abc", "SOPInstanceUID", id="no-uid"),
        pytest.param("PatientID=%00", "PatientID", id="nul"),
        pytest.param("PatientID=%FF", "", id="not-utf-8"),
        pytest.param("&".join(f"x{n}=1" for n in range(300)), "", id="too-many-parameters"),
    ],
)
def test_search_refused(web: Web, query: str, path: str) -> None:
    fill(web.worklist)
    answer = web.ask("GET", f"/workitems?{query}")
    assert (answer.status_code, paths(answer)) == (400, [path])


def test_what_a_result_holds(web: Web) -> None:
    web.worklist.create_workitem(
        UID,
        minimal(CommentsOnTheScheduledProcedureStep="long", ReferencedRequestSequence=request()),
        actor=Actor(door="person"),
    )
    (found,) = web.ask("GET", "/workitems?MedicalAlerts=").json()
    assert text(found, "SOPInstanceUID") == UID
    assert found[tag_key("MedicalAlerts")] == {"vr": "LO"}
    assert found[tag_key("ScheduledHumanPerformersSequence")] == {"vr": "SQ"}
    assert tag_key("CommentsOnTheScheduledProcedureStep") not in found
    assert tag_key("TransactionUID") not in found
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    "field", ["CommentsOnTheScheduledProcedureStep", "00400400", "all", "00400400,00080018"]
)
def test_included_fields(web: Web, field: str) -> None:
    attributes = minimal(CommentsOnTheScheduledProcedureStep="long")
    web.worklist.create_workitem(UID, attributes, actor=Actor(door="person"))
    (found,) = web.ask("GET", f"/workitems?includefield={field}").json()
    assert text(found, "CommentsOnTheScheduledProcedureStep") == "long"


@pytest.mark.parametrize(
    ("query", "matching"),
    [
        ("", {}),
        ("filter=00741202%3DAI%2C00741000%3DSCHEDULED", {"00741202": "AI", "00741000": "SCHEDULED"}),
        ("filter=00741202=AI,00741000=SCHEDULED", {"00741202": "AI", "00741000": "SCHEDULED"}),
        ("filter=00741202=AI&filter=00741000=SCHEDULED", {"00741202": "AI", "00741000": "SCHEDULED"}),
        ("WorklistLabel=AI&00741000=SCHEDULED", {"00741202": "AI", "00741000": "SCHEDULED"}),
        (
            "filter=WorklistLabel=AI, urgent,00741000=SCHEDULED",
            {"00741202": "AI, urgent", "00741000": "SCHEDULED"},
        ),
        ("filter=WorklistLabel=a=b", {"00741202": "a=b"}),
        ("filter=,,", {}),
        ("unknown=1&limit=5&charset=utf-8&includefield=all&fuzzymatching=true", {}),
    ],
)
@pytest.mark.parametrize("lock", ["true", "false"])
def test_subscription(query: str, matching: dict[str, str], lock: str) -> None:
    found = parse_subscription(f"deletionlock={lock}&{query}")
    assert isinstance(found, SubscriptionWish)
    assert found.deletion_lock is (lock == "true")
    assert {tag: key["Value"] for tag, key in found.matching.items()} == {
        tag: [value] for tag, value in matching.items()
    }


def test_subscription_by_members_of_a_sequence() -> None:
    found = parse_subscription("filter=ScheduledStationNameCodeSequence.CodeValue%3DPERF1")
    assert isinstance(found, SubscriptionWish)
    assert found.matching == {
        "00404025": {"vr": "SQ", "Value": [{"00080100": {"vr": "SH", "Value": ["PERF1"]}}]}
    }


@pytest.mark.parametrize(
    "query",
    [
        "deletionlock=TRUE",
        "filter=x",
        "filter=%FF",
        "filter=a,=",
        "&".join(["filter=00741202=A"] * 201),
        "filter=" + ",".join(["00741202=A"] * 201),
    ],
    ids=lambda query: query[:24],
)
def test_subscriptions_that_cannot_be_read(query: str) -> None:
    found = parse_subscription(query)
    assert isinstance(found, tuple)
    assert found
