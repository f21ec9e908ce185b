# SPDX-License-Identifier: Apache-2.0
"""What is kept of a workitem, and the columns it is kept in; no statement is run here.

A workitem is DICOM JSON text in two parts (``workitem.parts``): what lasts has a row of content of its own,
so that a step of a performer neither writes it nor makes the row that is searched long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson

from profiles.dicom_json import DicomJson
from profiles.ups.states import ProcedureStepState
from task_manager.store.compiled import utc_text, utc_time
from task_manager.store.tables import METADATA
from task_manager.workitem.columns import expires_at, search_columns
from task_manager.workitem.model import RequestedCancel, Workitem
from task_manager.workitem.parts import moving_part, moving_summary

_WORKITEM = METADATA.tables["workitem"]
_CONTENT = METADATA.tables["workitem_content"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What made a workitem, beside its attributes; empty for one created by a peer.

    `input_digest` tells whether a later revision of the study would ask for the same work again,
    `order_digest` whether the order has changed since.
    """

    rule: str = ""
    order_key: str = ""
    input_digest: str = ""
    order_digest: str = ""
    destinations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """How work on a workitem goes, beside its attributes.

    Attributes
    ----------
    app
        Name of the app that its code belongs to; empty for foreign work.
    tries
        Which try this is: 1, and one more in each replacement.
    rejected_by
        Stations that rejected the assignment.
    attention
        Why a person has to decide; empty if nobody has to.
    claimed_by
        Who claimed it, as their door knew them.
    """

    app: str = ""
    tries: int = 1
    rejected_by: tuple[str, ...] = ()
    attention: str = ""
    claimed_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A workitem with all that is kept of it.

    `content_number` names the row of its lasting part; `lease_until` is when to look whether its performer is
    lost.
    """

    workitem: Workitem
    origin: Origin
    dispatch: Dispatch
    content_number: int = 0
    lease_until: datetime | None = None


KEPT = tuple(
    _WORKITEM.c[name]
    for name in (
        *("uid", "state", "transaction_uid", "attributes", "created_at", "modified_at", "version"),
        *("cancel_requested", "claimed_at", "heard_at"),
        *("rule", "order_key", "input_digest", "order_digest", "destinations"),
        *("app", "tries", "rejected_by", "attention", "claimed_by", "content_number", "lease_until"),
    )
)
READ = (*KEPT, _CONTENT.c.attributes)
WITH_CONTENT = _WORKITEM.join(_CONTENT, _CONTENT.c.number == _WORKITEM.c.content_number)
INSERTED = [column.name for column in _WORKITEM.columns]
UPDATED = [name for name in INSERTED if name != "created_at"]
PROGRESSED = ("uid", "version", "attributes", "summary", "heard_at", "modified_at")
"""What an update by a performer writes: no column with an index."""

STEPPED = (
    *(*PROGRESSED, "state", "transaction_uid", "cancel_requested"),
    *("claimed_by", "claimed_at", "lease_until", "final_at"),
)
"""What a change of state writes; the rest of the row stays as it is."""


_DISPATCHED = ("app", "tries", "rejected_by", "attention")


def searched_columns(attributes: DicomJson) -> dict[str, Any]:
    """The columns to search by."""
    return {**search_columns(attributes), "expires_at": utc_text(expires_at(attributes))}


def progress_columns(workitem: Workitem) -> dict[str, Any]:
    """The columns that an update by its performer changes."""
    return {
        "uid": workitem.uid,
        "version": workitem.version,
        "attributes": orjson.dumps(moving_part(workitem.attributes)).decode(),
        "summary": orjson.dumps(moving_summary(workitem.attributes)).decode(),
        "heard_at": utc_text(workitem.heard_at),
        "modified_at": utc_text(workitem.modified_at),
    }


def step_columns(record: Record) -> dict[str, Any]:
    """The columns that a change of state changes."""
    workitem = record.workitem
    return {
        **progress_columns(workitem),
        "state": workitem.state.value,
        "transaction_uid": workitem.transaction_uid,
        "cancel_requested": _cancel_text(workitem.cancel_requested),
        "claimed_by": record.dispatch.claimed_by,
        "claimed_at": utc_text(workitem.claimed_at),
        "lease_until": utc_text(record.lease_until),
        "final_at": utc_text(workitem.modified_at) if workitem.is_final else None,
    }


def around_columns(record: Record) -> dict[str, Any]:
    """The columns of what made it and how work on it goes."""
    origin, dispatch = record.origin, record.dispatch
    return {
        "created_at": utc_text(record.workitem.created_at),
        "rule": origin.rule,
        "order_key": origin.order_key,
        "input_digest": origin.input_digest,
        "order_digest": origin.order_digest,
        "destinations": ",".join(origin.destinations),
        "app": dispatch.app,
        "tries": dispatch.tries,
        "rejected_by": ",".join(dispatch.rejected_by),
        "attention": dispatch.attention,
    }


def only_progressed(former: Record, record: Record) -> bool:
    """Whether no more has changed than :func:`progress_columns`, where :func:`same_around` holds."""
    before, after = former.workitem, record.workitem
    return (
        before.state is after.state
        and before.transaction_uid == after.transaction_uid
        and before.cancel_requested is after.cancel_requested
        and before.claimed_at is after.claimed_at
        and former.dispatch is record.dispatch
        and former.lease_until == record.lease_until
    )


def same_around(former: Record, record: Record) -> bool:
    """Whether the columns of :func:`around_columns` are certainly the same."""
    if former.origin is not record.origin:
        return False
    before, after = former.dispatch, record.dispatch
    return before is after or all(getattr(before, name) == getattr(after, name) for name in _DISPATCHED)


def _cancel_text(requested: RequestedCancel | None) -> str:
    return orjson.dumps(asdict(requested)).decode() if requested else ""


def _cancel_value(text: str) -> RequestedCancel | None:
    if not text:
        return None
    fields = orjson.loads(text)
    return RequestedCancel(**{**fields, "requested_at": datetime.fromisoformat(fields["requested_at"])})


def _aware(stored: str) -> datetime:
    return datetime.fromisoformat(stored)


def record_of(row: Sequence[Any], lasting: DicomJson) -> Record:
    """The record in a row of the columns in :data:`KEPT`, with the lasting part of its attributes."""
    return Record(
        workitem=Workitem(
            uid=row[0],
            state=ProcedureStepState(row[1]),
            transaction_uid=row[2],
            attributes={**lasting, **orjson.loads(row[3])},
            created_at=_aware(row[4]),
            modified_at=_aware(row[5]),
            version=row[6],
            cancel_requested=_cancel_value(row[7]),
            claimed_at=utc_time(row[8]),
            heard_at=utc_time(row[9]),
        ),
        origin=_origin(row[10:15]) if any(row[10:15]) else _OF_A_PEER,
        dispatch=Dispatch(
            app=row[15],
            tries=row[16],
            rejected_by=_names(row[17]),
            attention=row[18],
            claimed_by=row[19],
        ),
        content_number=row[20],
        lease_until=utc_time(row[21]),
    )


_OF_A_PEER = Origin()


def _origin(row: Sequence[str]) -> Origin:
    rule, order_key, input_digest, order_digest, destinations = row
    return Origin(
        rule=rule,
        order_key=order_key,
        input_digest=input_digest,
        order_digest=order_digest,
        destinations=_names(destinations),
    )


def _names(joined: str) -> tuple[str, ...]:
    return tuple(joined.split(",")) if joined else ()
