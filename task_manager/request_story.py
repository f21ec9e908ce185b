# SPDX-License-Identifier: Apache-2.0
"""Where a request stands, for who asked: what it waits for, what was made of it, and what happens next.

Names of patients are not in it. Nothing is kept for it: all is read from what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from profiles.order import Order
from profiles.request import RequestKind
from profiles.ups.states import ProcedureStepState
from task_manager.fetching.model import FetchState, FetchTarget
from task_manager.store import fetches, orders, requests
from task_manager.store.database import Connection, Database
from task_manager.store.orders import OrderStatus
from task_manager.store.requests import KeptRequest
from task_manager.study.model import StudyState


class RequestState(StrEnum):
    """How far a request is."""

    WAITING_FOR_STUDY = "WAITING FOR STUDY"
    RECEIVING = "RECEIVING"
    NO_RULE = "NO RULE"
    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    HELD = "HELD"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedWork:
    """One workitem for a study that was asked for."""

    uid: str
    state: str
    app: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStory:
    """A request and what became of it.

    Attributes
    ----------
    accession_number, study_instance_uid
        As asked; empty where nothing was said.
    studies
        UIDs of the studies here that it is about.
    workitems
        What rules made for them; of the app only, where one was asked for.
    next
        What happens next, in words.
    """

    request: KeptRequest
    accession_number: str
    study_instance_uid: str
    state: RequestState
    studies: tuple[str, ...]
    workitems: tuple[RequestedWork, ...]
    next: str


def request_story(database: Database, kind: RequestKind, name: str) -> RequestStory | None:
    """The story of a request; None if there is none."""
    with database.read() as connection:
        kept = requests.request_by_key(connection, f"{kind.value}:{name}")
        if kept is None:
            return None
        order = orders.order_by_key(connection, kept.order_key) if kept.order_key else None
        study = order.study_instance_uid if order else kept.study_instance_uid
        found = requests.studies_meant(
            connection,
            study_instance_uid=study,
            accession_number=order.accession_number if order else "",
            patient_id=order.patient_id if order else "",
        )
        uids = [uid for uid, _ in found]
        work = tuple(
            RequestedWork(uid=uid, state=state, app=app)
            for uid, state, app in requests.work_of_studies(connection, uids)
            if kept.app in ("", app)
        )
        state = _state(kept, [state for _, state in found], work)
        return RequestStory(
            request=kept,
            accession_number=order.accession_number if order else "",
            study_instance_uid=study,
            state=state,
            studies=tuple(uids),
            workitems=work,
            next=_next(state, uids, _fetching(connection, order, study)),
        )


def _state(kept: KeptRequest, studies: Sequence[str], work: Sequence[RequestedWork]) -> RequestState:
    if kept.status is OrderStatus.REVOKED:
        return RequestState.CANCELED
    if kept.status is OrderStatus.HELD:
        return RequestState.HELD
    if not studies:
        return RequestState.WAITING_FOR_STUDY
    states = {one.state for one in work}
    for wanted in (ProcedureStepState.IN_PROGRESS, ProcedureStepState.SCHEDULED):
        if wanted.value in states:
            return RequestState(wanted.value)
    if StudyState.RECEIVING.value in studies:
        return RequestState.RECEIVING
    if ProcedureStepState.COMPLETED.value in states:
        return RequestState.COMPLETED
    return RequestState.CANCELED if states else RequestState.NO_RULE


def _fetching(connection: Connection, order: Order | None, study_instance_uid: str) -> str:
    """How a fetch of the study stands, in words; empty if none was asked for."""
    if study_instance_uid:
        found = fetches.fetches_of_study(connection, study_instance_uid)
        state = found[-1].state if found else None
    elif order is not None and order.accession_number:
        target = FetchTarget(accession_number=order.accession_number, patient_id=order.patient_id)
        one = fetches.fetch_by_key(connection, target.key)
        state = one.state if one else None
    else:
        state = None
    return _FETCHING[state] if state is not None else ""


_FETCHING = {
    FetchState.WAITING: "it is being fetched from an archive",
    FetchState.RUNNING: "it is being fetched from an archive",
    FetchState.DONE: "what an archive had of it was fetched",
    FetchState.NOT_FOUND: "no archive has it",
    FetchState.HELD: "its fetch waits for a person",
}


def _next(state: RequestState, uids: Sequence[str], fetching: str) -> str:
    match state:
        case RequestState.WAITING_FOR_STUDY:
            where = f": {fetching}" if fetching else ""
            return f"the study is not here{where}; rules are tried when its images have come"
        case RequestState.RECEIVING:
            return "rules are tried when the study is complete"
        case RequestState.NO_RULE:
            return f"no rule gives work on it; airway explain {uids[0]} tells why"
        case RequestState.SCHEDULED:
            return "its work waits for a performer"
        case RequestState.IN_PROGRESS:
            return "its work is being done"
        case RequestState.COMPLETED:
            return "its work is done; results go to their destinations"
        case RequestState.CANCELED:
            return "nothing more"
        case RequestState.HELD:
            return "nothing before it is released"
