# SPDX-License-Identifier: Apache-2.0
"""The worklist over DIMSE: UPS Push, Pull, Watch, Event and Query as SCP (PS3.4 Annex CC).

Translates only: messages into commands of the Worklist and Subscriptions ports, outcomes into statuses. What
the library knows of a message stops in ``ups_messages.py``. No message, however hostile, raises into the
library: what goes wrong is a status.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import orjson
from pydicom.dataset import Dataset

from informatics_gateway.dimse.ups_actions import UpsActions, transaction_uid_of
from informatics_gateway.dimse.ups_dataset import read_data_set
from informatics_gateway.dimse.ups_encoding import pydicom_data_set
from informatics_gateway.dimse.ups_find import CANCELED, Find, answer, read_find
from informatics_gateway.dimse.ups_messages import (
    ACTIONS,
    INTERNAL_ERROR,
    OPERATIONS,
    Action,
    Answer,
    MessageStatus,
    Request,
    Service,
    accepted_answer,
    class_answer,
    refused_answer,
    request_of,
    told_faults,
)
from informatics_gateway.statuses import STATUSES, WARNINGS, Operation
from profiles.dicom_json import DicomJson, first, tag_key
from profiles.faults import Fault
from profiles.uids import is_uid
from profiles.ups.attributes import TOP_ROWS, by_tag
from profiles.ups.dataset import entry
from profiles.ups.states import UPS_SOP_CLASS_UIDS
from task_manager.doorkeeping import refusal_of
from task_manager.errors import StoreError, facts_of
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.ports import Subscriptions, WorkitemQuery, Worklist

_LOG = logging.getLogger(__name__)
_PAGE = 1000  # of one look at the worklist: what changes meanwhile moves what later looks would find
_TRANSACTION_UID = tag_key("TransactionUID")
_SOP_CLASS_UID = tag_key("SOPClassUID")
_SOP_INSTANCE_UID = tag_key("SOPInstanceUID")
_NOT_IN_GET = frozenset({_TRANSACTION_UID, _SOP_CLASS_UID, _SOP_INSTANCE_UID})

Answered = TypeVar("Answered")


class UpsProvider:
    """Answers the messages of the five UPS SOP classes; the handlers are called from any thread.

    Parameters
    ----------
    worklist
        Where workitems are.
    subscriptions
        Where subscriptions are; without, subscribing is refused as C315.
    """

    def __init__(self, worklist: Worklist, subscriptions: Subscriptions | None = None) -> None:
        self._worklist = worklist
        self._actions = UpsActions(worklist, subscriptions)

    # Handlers of the library's events

    def handle_create(self, event: Any) -> tuple[Dataset, Dataset | None]:
        """``EVT_N_CREATE``."""
        request = request_of(event, "AttributeList")
        told = self._guarded(request, Service.CREATE, lambda: self._create(request))
        if told.status or request.sop_instance_uid:
            return told.status_data_set(""), None
        named = Dataset()  # the library takes the UID of a plain success out of a data set
        named.AffectedSOPInstanceUID = told.sop_instance_uid
        return replace(told, sop_instance_uid="").status_data_set(""), named

    def handle_set(self, event: Any) -> tuple[Dataset, Dataset | None]:
        """``EVT_N_SET``."""
        request = request_of(event, "ModificationList")
        return self._guarded(request, Service.SET, lambda: self._set(request)).status_data_set(), None

    def handle_get(self, event: Any) -> tuple[Dataset, Dataset | None]:
        """``EVT_N_GET``."""
        request = request_of(event)
        tags = event.request.AttributeIdentifierList or []
        asked = [f"{int(tag):08X}" for tag in (tags if isinstance(tags, list) else [tags])]
        told = self._guarded(request, Service.GET, lambda: self._get(request, asked))
        return told.status_data_set(), told.data_set

    def handle_action(self, event: Any) -> tuple[Dataset, Dataset | None]:
        """``EVT_N_ACTION``."""
        request = request_of(event, "ActionInformation")
        number = int(event.request.ActionTypeID)
        told = self._guarded(request, Service.ACTION, lambda: self._action(request, number))
        return told.status_data_set(""), None

    def handle_event_report(self, event: Any) -> tuple[Dataset, Dataset | None]:
        """``EVT_N_EVENT_REPORT``: reports are ours to send; a peer that sends one is told so."""
        request = request_of(event)
        told = self._guarded(request, Service.EVENT_REPORT, lambda: Answer(status=MessageStatus.SUCCESS))
        return told.status_data_set(""), None

    def handle_find(self, event: Any) -> Iterator[tuple[Dataset | int, Dataset | None]]:
        """``EVT_C_FIND``: one pending response per match, a page at a time, until canceled."""
        request = request_of(event, "Identifier")
        search = self._guarded(request, Service.FIND, lambda: self._read_find(request))
        if isinstance(search, Answer):
            yield search.status_data_set("OffendingElement"), None
            return
        told: set[str] = set()
        offset = 0
        while not search.is_empty:
            page = self._guarded(request, Service.FIND, partial(self._page, search, offset))
            if isinstance(page, Answer):
                yield page.status_data_set("OffendingElement"), None
                return
            for found in page:
                if event.is_cancelled:
                    yield CANCELED, None
                    return
                match = self._guarded(request, Service.FIND, partial(_match, search, found))
                if isinstance(match, Answer):
                    yield match.status_data_set("OffendingElement"), None
                    return
                uid, identifier = match
                if uid not in told:  # one that moved between two pages
                    told.add(uid)
                    yield search.status, identifier
            if len(page) < _PAGE:
                return
            offset += _PAGE

    # The edge: everything that can go wrong ends as an answer

    def _guarded(self, request: Request, service: Service, work: Callable[[], Answered]) -> Answered | Answer:
        peer = {"peer": request.actor.name, "service": str(service)}
        try:
            return self._class_answer(request, service) or work()
        except StoreError as error:
            _LOG.warning("store failed", extra={"action": "ups_scp.store_failed", **peer, **facts_of(error)})
            refusal = Refused(refusal_of(error))
            return refused_answer(refusal, normalized=service is not Service.FIND)
        except Exception as error:  # noqa: BLE001 - the DIMSE edge: log once, answer, keep the association
            _LOG.error("message failed", extra={"action": "ups_scp.failed", **peer, **facts_of(error)})
            return Answer(
                status=STATUSES[RefusalCode.PROCESSING_FAILURE].dimse,
                comment="processing failure",
                error_id=INTERNAL_ERROR,
            )

    def _class_answer(self, request: Request, service: Service) -> Answer | None:
        exists = False
        if request.sop_class_uid not in UPS_SOP_CLASS_UIDS and is_uid(request.sop_instance_uid):
            exists = not isinstance(self._worklist.retrieve_workitem(request.sop_instance_uid), Refused)
        return class_answer(request, service, exists=exists)

    def _answered(self, outcome: Accepted | Refused, request: Request, operation: Operation) -> Answer:
        if isinstance(outcome, Accepted):
            return accepted_answer(outcome, operation)
        return _refused(outcome, request, operation)

    # N-CREATE, N-SET, N-GET

    def _create(self, request: Request) -> Answer:
        uid = request.sop_instance_uid or f"2.25.{uuid.uuid4().int}"
        if not is_uid(uid):
            return Answer(
                status=MessageStatus.INVALID_OBJECT_INSTANCE, comment="SOP Instance UID is not well-formed"
            )
        read = read_data_set(request.data, request.transfer_syntax)
        if isinstance(read, Refused):
            return _refused(read, request, Operation.CREATE)
        outcome = self._worklist.create_workitem(uid, read, actor=request.actor)
        if isinstance(outcome, Refused):
            return _refused(outcome, request, Operation.CREATE)
        return replace(accepted_answer(outcome, Operation.CREATE), sop_instance_uid=outcome.uid or uid)

    def _set(self, request: Request) -> Answer:
        changes = read_data_set(request.data, request.transfer_syntax)
        if isinstance(changes, Refused):
            return _refused(changes, request, Operation.UPDATE)
        transaction_uid = transaction_uid_of(changes)
        changes.pop(_TRANSACTION_UID, None)
        if first(changes, "SOPInstanceUID") == request.sop_instance_uid:
            del changes[_SOP_INSTANCE_UID]
        if first(changes, "SOPClassUID") in UPS_SOP_CLASS_UIDS:
            del changes[_SOP_CLASS_UID]
        outcome: Accepted | Refused = _unknown()
        if is_uid(request.sop_instance_uid):
            outcome = self._worklist.update_workitem(
                request.sop_instance_uid, changes, transaction_uid=transaction_uid, actor=request.actor
            )
        return self._answered(outcome, request, Operation.UPDATE)

    def _get(self, request: Request, asked: list[str]) -> Answer:
        found: DicomJson | Refused = _unknown()
        if is_uid(request.sop_instance_uid):
            found = self._worklist.retrieve_workitem(request.sop_instance_uid)
        if isinstance(found, Refused):
            return _refused(found, request, Operation.RETRIEVE)
        if not asked:
            whole = {tag: one for tag, one in found.items() if tag not in _NOT_IN_GET}
            return Answer(status=MessageStatus.SUCCESS, data_set=pydicom_data_set(whole))
        wanted, unsupported = _selected(found, asked)
        if not unsupported:
            return Answer(status=MessageStatus.SUCCESS, data_set=pydicom_data_set(wanted))
        return Answer(
            status=WARNINGS[WarningCode.ATTRIBUTES_IGNORED].dimse_status(Operation.RETRIEVE),
            comment="requested optional attributes are not supported",
            tags=tuple(int(tag, 16) for tag in unsupported),
            data_set=pydicom_data_set(wanted),
        )

    # N-ACTION

    def _action(self, request: Request, number: int) -> Answer:
        allowed = ACTIONS.get(request.abstract_syntax, frozenset())
        if number not in allowed:
            return Answer(
                status=MessageStatus.NO_SUCH_ACTION, comment="no such action in this presentation context"
            )
        action = Action(number)
        operation = OPERATIONS[action]
        details = read_data_set(request.data, request.transfer_syntax)
        if isinstance(details, Refused):
            return _refused(details, request, operation)
        if not is_uid(request.sop_instance_uid):
            return _refused(_unknown(), request, operation)
        return self._answered(self._actions.perform(request, action, details), request, operation)

    # C-FIND

    def _read_find(self, request: Request) -> Find | Answer:
        identifier = read_data_set(request.data, request.transfer_syntax)
        found = identifier if isinstance(identifier, Refused) else read_find(identifier)
        if isinstance(found, Refused):
            return _refused(found, request, Operation.SEARCH, normalized=False)
        return found

    def _page(self, search: Find, offset: int) -> Sequence[bytes]:
        """The next matches as JSON texts."""
        query = WorkitemQuery(
            matching=search.keys, offset=offset, limit=_PAGE, returned=search.tags | {_SOP_INSTANCE_UID}
        )
        return self._worklist.search(query).result().results


def _match(search: Find, found: bytes) -> tuple[str, Dataset]:
    """UID and response identifier of a match."""
    attributes: DicomJson = orjson.loads(found)
    return str(first(attributes, "SOPInstanceUID")), pydicom_data_set(answer(search.asked, attributes))


def _refused(refusal: Refused, request: Request, operation: Operation, *, normalized: bool = True) -> Answer:
    _LOG.info(
        "message refused",
        extra={
            "action": "ups_scp.refused",
            "peer": request.actor.name,
            "operation": operation.value,
            "code": str(refusal.code),
            "faults": told_faults(refusal.faults),
        },
    )
    return refused_answer(refusal, normalized=normalized)


def _unknown() -> Refused:
    return Refused(RefusalCode.NO_SUCH_INSTANCE, (Fault("SOPInstanceUID", "names no workitem here"),))


def _selected(attributes: DicomJson, asked: list[str]) -> tuple[DicomJson, list[str]]:
    """What N-GET answers of the attributes asked for, and which of those are not supported (CC.2.7).

    An attribute of the table that may be empty comes empty where it has no value; UIDs of class and instance
    travel in the command set. Transaction UID is never told.
    """
    rows = by_tag(TOP_ROWS)
    wanted: DicomJson = {}
    unsupported = []
    for tag in asked:
        row, stored = rows.get(tag), attributes.get(tag)
        if tag in (_SOP_CLASS_UID, _SOP_INSTANCE_UID):
            continue
        if tag == _TRANSACTION_UID or (stored is None and row is None):
            unsupported.append(tag)
        elif stored is not None:
            wanted[tag] = stored
        elif row is not None and row.get.endswith("2"):
            wanted[tag] = {"vr": entry(tag).vrs[0]}
    return wanted, unsupported
