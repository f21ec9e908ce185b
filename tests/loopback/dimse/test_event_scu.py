# SPDX-License-Identifier: Apache-2.0
"""Event reports over associations that we open: to pynetdicom listeners of every mood."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from conformance.peers.process import free_port
from informatics_gateway.dimse.event_scu import DimseEventSender
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.ups_messages import EVENT, PUSH, WATCH
from profiles.dicom_json import DicomJson, element, merged
from profiles.ups.report import state_report
from task_manager.errors import DeliveryError, FinalDeliveryError, RetryableDeliveryError
from task_manager.notices import Notice
from tests.contract.workitems import minimal

HOST, AE_TITLE = "127.0.0.1", "WATCHER"
# pynetdicom drops a socket that was refused without closing it
REFUSED = pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")


@dataclass
class Heard:
    """What a listener was told, one entry for each report and each association."""

    reports: list[tuple[int, str, str, str, Dataset]] = field(default_factory=list)
    associations: int = 0
    roles: list[tuple[bool, bool]] = field(default_factory=list)


@contextmanager
def listener(
    port: int,
    *statuses: int,
    sop_class: str = EVENT,
    role: bool | None = True,
    called: str = AE_TITLE,
    hang_up: bool = False,
) -> Iterator[Heard]:
    """An Event SCU that answers one status after the other, then success."""
    heard = Heard()
    answers = iter(statuses)

    def report(event: Any) -> tuple[int, None]:
        request = event.request
        heard.reports.append(
            (
                int(request.EventTypeID),
                str(request.AffectedSOPClassUID),
                str(request.AffectedSOPInstanceUID),
                str(event.assoc.requestor.ae_title),
                event.event_information,
            )
        )
        if hang_up:
            event.assoc.abort()
        return next(answers, 0x0000), None

    def accepted(event: Any) -> None:
        heard.associations += 1
        heard.roles += [(bool(one.as_scu), bool(one.as_scp)) for one in event.assoc.accepted_contexts]

    entity = AE(ae_title=called)
    entity.require_called_aet = True
    entity.add_supported_context(sop_class, scu_role=False if role else None, scp_role=role)
    handlers = [(evt.EVT_N_EVENT_REPORT, report), (evt.EVT_ACCEPTED, accepted)]
    server = entity.start_server((HOST, port), block=False, evt_handlers=handlers)
    try:
        yield heard
    finally:
        server.shutdown()


def notice(number: int, event_type: int = 1, content: DicomJson | None = None) -> Notice:
    return Notice(
        number=number,
        workitem_uid=f"2.25.{number}",
        event_type=event_type,
        content=json.dumps(content if content is not None else state_report(minimal())),
        receiving_aes=frozenset({AE_TITLE}),
    )


def sender(port: int) -> DimseEventSender:
    address = DicomAddress(host=HOST, port=port, called_ae_title=AE_TITLE, calling_ae_title="AIRWAY")
    return DimseEventSender({AE_TITLE: address}, timeout_s=1.5)


class Asked:
    """Notices that remember how many were asked for: asking for the next says that the last was sent."""

    def __init__(self, *notices: Notice) -> None:
        self.notices = notices
        self.sent = 0

    def __iter__(self) -> Iterator[Notice]:
        for one in self.notices:
            yield one
            self.sent += 1


@pytest.mark.parametrize("role", [True, None], ids=["role accepted", "no word on roles"])
def test_reports_come_in_order_over_one_association(role: bool | None) -> None:
    port = free_port()
    contents = [
        (1, None),
        (2, merged([element("RequestingAE", "OTHER"), element("ReasonForCancellation", "zu spät")])),
        (3, element("ProcedureStepProgressInformationSequence", element("ProcedureStepProgress", 40))),
    ]
    notices = Asked(*(notice(number, kind, content) for number, (kind, content) in enumerate(contents, 1)))
    with listener(port, role=role) as heard:
        sender(port).send(AE_TITLE, notices)
    assert (heard.associations, notices.sent) == (1, 3)
    assert [report[:4] for report in heard.reports] == [
        (kind, PUSH, f"2.25.{kind}", "AIRWAY") for kind in (1, 2, 3)
    ]
    assert heard.reports[0][4].ProcedureStepState == "SCHEDULED"
    assert heard.reports[1][4].ReasonForCancellation == "zu spät"
    progress = heard.reports[2][4].ProcedureStepProgressInformationSequence[0]
    assert progress.ProcedureStepProgress == 40
    if role:
        assert heard.roles == [(True, False)]  # the listener is the SCU: the manager is SCP of Event


@REFUSED
def test_a_peer_that_is_down_is_for_later_and_then_told() -> None:
    port = free_port()
    notices = Asked(notice(1), notice(2))
    with pytest.raises(RetryableDeliveryError):
        sender(port).send(AE_TITLE, notices)
    assert notices.sent == 0
    with listener(port) as heard:
        sender(port).send(AE_TITLE, notices)
    assert [report[2] for report in heard.reports] == ["2.25.1", "2.25.2"]


@pytest.mark.parametrize(
    ("status", "sent", "error"),
    [
        (0x0000, 3, None),
        (0x0107, 3, None),
        (0xB000, 3, None),
        (0x0113, 3, None),
        (0x0112, 3, None),
        (0xC307, 3, None),
        (0x0110, 1, RetryableDeliveryError),
        (0x0213, 1, RetryableDeliveryError),
        (0xA700, 1, RetryableDeliveryError),
    ],
    ids=lambda value: f"{value:04X}" if isinstance(value, int) else "",
)
def test_statuses(status: int, sent: int, error: type[DeliveryError] | None) -> None:
    port = free_port()
    notices = Asked(notice(1), notice(2), notice(3))
    with listener(port, 0x0000, status) as heard:
        if error is None:
            sender(port).send(AE_TITLE, notices)
        else:
            with pytest.raises(error, match=f"{status:04X}"):
                sender(port).send(AE_TITLE, notices)
    assert notices.sent == sent
    assert len(heard.reports) == (3 if error is None else 2)


def test_a_report_without_information_is_taken() -> None:
    port = free_port()
    notices = Asked(notice(1, 5, {}), notice(2))
    with listener(port) as heard:
        sender(port).send(AE_TITLE, notices)
    assert notices.sent == 2
    assert [(report[0], report[2], len(report[4])) for report in heard.reports] == [
        (5, "2.25.1", 0),
        (1, "2.25.2", 2),
    ]


def test_what_cannot_be_encoded_does_not_hold_up_the_rest() -> None:
    port = free_port()
    broken = notice(1, content={"00741000": {"vr": "AT", "Value": ["no tag"]}})
    notices = Asked(broken, notice(2))
    with listener(port) as heard:
        sender(port).send(AE_TITLE, notices)
    assert (notices.sent, [report[2] for report in heard.reports]) == (2, ["2.25.2"])


def test_a_peer_that_breaks_off_is_for_later() -> None:
    port = free_port()
    notices = Asked(notice(1), notice(2))
    with listener(port, hang_up=True) as heard, pytest.raises(RetryableDeliveryError):
        sender(port).send(AE_TITLE, notices)
    assert (len(heard.reports), notices.sent) == (1, 0)


def test_a_peer_that_does_not_answer_is_for_later() -> None:
    with socket.create_server((HOST, 0)) as silent:
        with pytest.raises(RetryableDeliveryError):
            sender(silent.getsockname()[1]).send(AE_TITLE, [notice(1)])


@pytest.mark.parametrize("given", [{"sop_class": WATCH}, {"called": "SOMEONE"}], ids=["class", "AE title"])
def test_a_peer_that_takes_no_reports(given: dict[str, Any]) -> None:
    port = free_port()
    with listener(port, **given) as heard, pytest.raises(FinalDeliveryError):
        sender(port).send(AE_TITLE, [notice(1)])
    assert heard.reports == []


def test_a_peer_that_is_not_configured() -> None:
    with pytest.raises(FinalDeliveryError):
        sender(free_port()).send("STRANGER", [notice(1)])
