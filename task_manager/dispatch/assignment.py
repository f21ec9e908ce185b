# SPDX-License-Identifier: Apache-2.0
"""Who is to perform a workitem: the choice, and the attributes that tell it (IHE AIW-I TF-1:50.4.2.1).

``choose`` is pure; :class:`Assignment` applies it in the transaction that makes a workitem ready, and again
when the chosen one rejects it (50.4.2.4). Without configured performers every workitem stays open to all.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from weakref import WeakKeyDictionary

from profiles.codes import ASSIGNMENT_REJECTED, RESOURCE_INADEQUATE, Code
from profiles.dicom_json import DicomJson, element, items, merged, text, values
from profiles.ups.context import LOCAL_SCHEME, code_in, code_item, code_of, station_code
from profiles.ups.states import InputReadinessState, ProcedureStepState
from task_manager.actor import WORKER, Actor
from task_manager.dispatch.model import PerformerOffer, Style
from task_manager.outcome import Accepted, Refused
from task_manager.store import assignments
from task_manager.store.database import Connection
from task_manager.transaction import WorklistTransaction
from task_manager.workitem import machine
from task_manager.workitem.commands import Command, Rearrange, RequestCancel, Withdraw
from task_manager.workitem.model import Workitem

_LOG = logging.getLogger(__name__)
_ASSIGNING = (
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledHumanPerformersSequence",
)
_COUNTED = 1000
_AT_A_TIME = 10


def app_of(codes: Mapping[str, Code], attributes: DicomJson) -> str:
    """The app whose code the workitem has; empty if none has it."""
    code = code_of(attributes, "ScheduledWorkitemCodeSequence") if codes else None
    if code is None:
        return ""
    return next((app for app, known in codes.items() if known.same_concept(code)), "")


def is_open(attributes: DicomJson) -> bool:
    """Whether every performer may take it: no station, class or person is named (TF-2:4.82.4.1.1)."""
    return not any(values(attributes, keyword) for keyword in _ASSIGNING)


def station_of(attributes: DicomJson) -> str:
    """AE title of the station it is assigned to; empty for none, or for several."""
    stations = items(attributes, "ScheduledStationNameCodeSequence")
    return text(stations[0], "CodeValue").strip(" ") if len(stations) == 1 else ""


def is_ready(attributes: DicomJson) -> bool:
    """Whether its inputs are all there."""
    return text(attributes, "InputReadinessState") == InputReadinessState.READY.value


def fits(offer: PerformerOffer, app: str, rejected_by: Collection[str]) -> bool:
    """Whether a performer does this app's work and has not rejected it; a pushed one needs an address."""
    if offer.style is Style.PUSH and not offer.url:
        return False
    return offer.ae_title not in rejected_by and (not offer.apps or app in offer.apps)


def choose(
    offers: Sequence[PerformerOffer],
    workitem: DicomJson,
    app: str,
    rejected_by: Collection[str],
    load: Mapping[str, int],
) -> PerformerOffer | None:
    """The performer for a workitem: the least loaded that may have it, the first listed among equals.

    Parameters
    ----------
    workitem
        Its attributes; one that names its station or class goes to nobody else.
    app
        The app it asks for; none is known for an empty one, and nobody is chosen.
    rejected_by
        AE titles that will not do it.
    load
        AE title to the number of workitems assigned to it that are not final.
    """
    if not app or not is_open(workitem):
        return None
    able = [
        offer
        for offer in offers
        if fits(offer, app, rejected_by)
        and (not offer.capacity or load.get(offer.ae_title, 0) < offer.capacity)
    ]
    return min(able, key=lambda offer: load.get(offer.ae_title, 0), default=None)


def assignment_changes(offer: PerformerOffer) -> DicomJson:
    """Changes that assign a workitem to a performer, by all that its offer names.

    An organization becomes a Scheduled Human Performer: the item needs a code and a name (PS3.4 CC.2.5-3),
    and both are the organization's.
    """
    named = offer.by_name or not (offer.station_class or offer.organization)
    return assigned(
        station=offer.ae_title if named else "",
        station_class=offer.station_class,
        organization=offer.organization,
    )


def assigned(*, station: str = "", station_class: str = "", organization: str = "") -> DicomJson:
    """Changes that assign a workitem to a station, a class, an organization; to nobody if all are empty."""
    stations = [code_item(station_code(station))] if station else []
    classes = [code_item(Code(station_class, LOCAL_SCHEME, station_class))] if station_class else []
    people = []
    if organization:
        name = organization.translate(_NO_PERSON_NAME)
        code = code_item(Code(organization, LOCAL_SCHEME, organization))
        people.append(
            merged(
                [
                    element("HumanPerformerCodeSequence", code),
                    element("HumanPerformerName", name),
                    element("HumanPerformerOrganization", organization),
                ]
            )
        )
    return merged(
        [
            element("ScheduledStationNameCodeSequence", *stations),
            element("ScheduledStationClassCodeSequence", *classes),
            element("ScheduledHumanPerformersSequence", *people),
        ]
    )


_NO_PERSON_NAME = {ord("^"): " ", ord("="): " ", ord("\\"): "/"}


def rejected_for(
    workitem: Workitem, command: RequestCancel, actor: Actor, offers: Sequence[PerformerOffer] = ()
) -> tuple[str, ...]:
    """The stations for which a cancel request is a "not I" (50.4.2.4, reason 110530); empty if it is none.

    It has to come from the assigned station, from one of the assigned class or organization, or by HTTP,
    where requests name no AE, from a client that does not call itself one of the others. A client without a
    name speaks for all that share the class or organization.
    """
    codes = items(command.details, "ProcedureStepDiscontinuationReasonCodeSequence")
    if workitem.state is not ProcedureStepState.SCHEDULED:
        return ()
    if not any(ASSIGNMENT_REJECTED.same_concept(code_in(code)) for code in codes):
        return ()
    assigned_to = _stations(workitem.attributes, offers)
    asker = command.requesting_ae.strip()
    if asker in assigned_to:
        return (asker,)
    others = [offer.ae_title for offer in offers]
    unnamed = asker in ("", machine.ANONYMOUS) or (actor.door == "dicomweb" and asker not in others)
    return assigned_to if unnamed else ()


def _stations(attributes: DicomJson, offers: Sequence[PerformerOffer]) -> tuple[str, ...]:
    """AE titles it is assigned to: its station, or all that are reached by its class or organization only."""
    station = station_of(attributes)
    if station:
        return (station,)
    shared = [offer for offer in offers if not offer.by_name and (offer.station_class or offer.organization)]
    return tuple(offer.ae_title for offer in shared if _is_assigned_by(attributes, offer))


def _is_assigned_by(attributes: DicomJson, offer: PerformerOffer) -> bool:
    return all(
        values(attributes, keyword) == values(assignment_changes(offer), keyword) for keyword in _ASSIGNING
    )


class Assignment:
    """Assigns workitems that are ready and open; a :class:`task_manager.transaction.Follower`.

    Parameters
    ----------
    offers
        The configured performers, the preferred first; none leaves all workitems as they are.
    codes
        App to its Scheduled Workitem Code; workitems with other codes stay open to all.
    """

    def __init__(
        self,
        offers: Sequence[PerformerOffer],
        codes: Mapping[str, Code],
    ) -> None:
        self._offers = tuple(offers)
        self._codes = dict(codes)
        self._bounded = frozenset(offer.ae_title for offer in self._offers if offer.capacity)
        self._unwritten: WeakKeyDictionary[WorklistTransaction, Counter[str]] = WeakKeyDictionary()

    def created(self, work: WorklistTransaction, workitem: Workitem) -> None:
        """Note the app, and assign the workitem if it is ready and open."""
        app = self._known_app(work, workitem)
        if app and self._offers:
            self._assign(work, workitem.uid, app)

    def changed(
        self, work: WorklistTransaction, before: Workitem, after: Workitem, command: Command, actor: Actor
    ) -> None:
        """Assign what has become ready; when a performer with a bound is done with one, give it the next."""
        del command, actor
        if not self._offers:
            return
        if after.state is ProcedureStepState.SCHEDULED:
            if is_ready(after.attributes) and not is_ready(before.attributes):
                app = self._known_app(work, after)
                if app:
                    self._assign(work, after.uid, app)
        elif after.is_final and not before.is_final:
            station = station_of(after.attributes)
            if station in self._bounded:
                self._count(work, station, -1)
                self._assign_waiting(work)

    def reassigned(
        self, work: WorklistTransaction, workitem: Workitem, command: Command, actor: Actor
    ) -> Accepted | Refused | None:
        """The answer to a rejected assignment, in place of the machine's; None if it is none.

        By DICOM a cancel request on a SCHEDULED workitem cancels it (CC.2.2.3). AIW-I has its manager assign
        it to another performer (50.4.2.4), and cancel it only when there is none.
        """
        if not isinstance(command, RequestCancel):
            return None
        stations = rejected_for(workitem, command, actor, self._offers)
        if not stations:
            return None
        app = work.dispatch(workitem.uid).app or app_of(self._codes, workitem.attributes)
        if not app or not self._offers:
            return None
        checked = machine.apply(workitem, command, now=work.now)  # its details must be right all the same
        if isinstance(checked, Refused):
            return checked
        if not self.move_on(work, workitem.uid, *stations):
            text_ = "every performer of this task rejected it"
            self._attend(work, workitem.uid, text_)
            work.apply(workitem.uid, Withdraw(reason=RESOURCE_INADEQUATE, text=text_), actor=WORKER)
        return Accepted(uid=workitem.uid, warnings=checked.accepted.warnings)

    def move_on(self, work: WorklistTransaction, uid: str, *stations: str) -> bool:
        """Assign a SCHEDULED workitem to another than `stations`, which will not or cannot do it.

        A bound on what is assigned to the others does not count: too much is better than nobody. Whether
        there was another; if not, the workitem stays as it is.
        """
        workitem = work.get(uid)
        if workitem is None or workitem.state is not ProcedureStepState.SCHEDULED:
            return False
        dispatch = work.dispatch(uid)
        rejected = tuple(dict.fromkeys((*dispatch.rejected_by, *stations)))
        app = dispatch.app or app_of(self._codes, workitem.attributes)
        able = [replace(offer, capacity=0) for offer in self._offers if fits(offer, app, rejected)]
        opened = merged([workitem.attributes, assigned()])
        offer = choose(able, opened, app, rejected, self._load(work, able))
        if offer is None:
            return False
        work.set_dispatch(uid, replace(dispatch, app=app, rejected_by=rejected))
        work.apply(uid, Rearrange(changes=assignment_changes(offer)), actor=WORKER)
        self._count(work, offer.ae_title, 1)
        extra = {
            "action": "workitem.reassigned",
            "workitem": uid,
            "from": ", ".join(stations),
            "to": offer.ae_title,
        }
        _LOG.info("workitem assigned to another performer", extra=extra)
        return True

    def _known_app(self, work: WorklistTransaction, workitem: Workitem) -> str:
        dispatch = work.dispatch(workitem.uid)
        if dispatch.app:
            return dispatch.app
        app = app_of(self._codes, workitem.attributes)
        if app:
            work.set_dispatch(workitem.uid, replace(dispatch, app=app))
        return app

    def _assign(self, work: WorklistTransaction, uid: str, app: str) -> bool:
        workitem = work.get(uid)  # a follower before this one may have changed it
        if workitem is None or workitem.state is not ProcedureStepState.SCHEDULED:
            return False
        if not is_open(workitem.attributes) or not is_ready(workitem.attributes):
            return False
        rejected = work.dispatch(uid).rejected_by
        able = [offer for offer in self._offers if fits(offer, app, rejected)]
        offer = choose(able, workitem.attributes, app, rejected, self._load(work, able))
        if offer is None:
            return False
        work.apply(uid, Rearrange(changes=assignment_changes(offer)), actor=WORKER)
        self._count(work, offer.ae_title, 1)
        _LOG.info(
            "workitem assigned",
            extra={"action": "workitem.assigned", "workitem": uid, "to": offer.ae_title},
        )
        return True

    def _assign_waiting(self, work: WorklistTransaction) -> None:
        """Assign what waited until a performer with a bound became free."""
        for uid in assignments.waiting_unassigned(work.connection, self._codes, limit=_AT_A_TIME):
            if self._assign(work, uid, work.dispatch(uid).app):
                return

    def _load(self, work: WorklistTransaction, offers: Sequence[PerformerOffer]) -> dict[str, int]:
        """What each has to do; nothing is asked where only one may be chosen and it has no bound."""
        if len(offers) < 2 and not any(offer.capacity for offer in offers):
            return {}
        unwritten = self._unwritten.get(work, Counter())
        return {
            offer.ae_title: _load_of(work.connection, offer) + unwritten[offer.ae_title] for offer in offers
        }

    def _count(self, work: WorklistTransaction, ae_title: str, change: int) -> None:
        """Remember what the store does not know yet: workitems are written when the transaction ends."""
        self._unwritten.setdefault(work, Counter())[ae_title] += change

    def _attend(self, work: WorklistTransaction, uid: str, why: str) -> None:
        work.set_dispatch(uid, replace(work.dispatch(uid), attention=why))


def _load_of(connection: Connection, offer: PerformerOffer) -> int:
    most = max(_COUNTED, offer.capacity)
    if offer.by_name or not (offer.station_class or offer.organization):
        return assignments.assigned_to_station(connection, offer.ae_title, most=most)
    if offer.station_class:
        return assignments.assigned_to_class(connection, offer.station_class, most=most)
    return assignments.assigned_to_organization(connection, offer.organization, most=most)
