# SPDX-License-Identifier: Apache-2.0
"""When the inputs of a workitem are there: from UNAVAILABLE to READY (PS3.3 C.30.2, option of IHE AIW-I).

UNAVAILABLE says that the list of inputs is complete: the manager finds out when they can be had, in our own
store, by notification (RAD-49), or by asking archives. INCOMPLETE says that the list is not: only its creator
knows more, and changes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from profiles.codes import OBJECT_SET_INCOMPLETE
from profiles.dicom_json import DicomJson, element, items, merged, text
from profiles.ups.references import listed_instances
from profiles.ups.states import InputReadinessState, ProcedureStepState
from task_manager.actor import WORKER
from task_manager.errors import DeliveryError, StoreError, facts_of
from task_manager.outcome import Refused
from task_manager.store import availability, studies, workitems
from task_manager.store.availability import Availability
from task_manager.store.database import Connection, Database
from task_manager.transaction import WorklistTransaction
from task_manager.workitem.commands import Rearrange, Withdraw
from task_manager.workitem.model import Workitem

_LOG = logging.getLogger(__name__)
_PAGE = 200
_BETWEEN_LOOKS = timedelta(seconds=1)
_TIMES_AS_LONG = 10  # as a look takes, is the pause after it at least
_OURS = "store"


class ArchiveQuery(Protocol):
    """An archive that can be asked what it has."""

    @property
    def name(self) -> str:
        """What it is called in logs."""

    @property
    def url(self) -> str:
        """DICOMweb base to retrieve from; empty if it has none."""

    @property
    def ae_title(self) -> str:
        """AE title to retrieve from by C-MOVE; empty if it has none."""

    def available_instances(self, study_instance_uid: str) -> frozenset[str]:
        """SOP Instance UIDs of a study that can be retrieved from it.

        Raises
        ------
        DeliveryError
            If it does not answer.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where instances can be retrieved: DICOMweb base, or AE title."""

    name: str
    url: str = ""
    ae_title: str = ""


def input_items(attributes: DicomJson) -> list[DicomJson]:
    """The items of Input Information Sequence."""
    return items(attributes, "InputInformationSequence")


def ready_changes(attributes: DicomJson, places: Mapping[str, Sequence[Place]]) -> DicomJson | None:
    """Changes that make a workitem READY, with where its inputs are; None while an input is missing.

    Parameters
    ----------
    places
        SOP Instance UID to where it can be retrieved, the preferred first.

    Notes
    -----
    What an item says of where to retrieve from stays. Addresses of the first place that has all its instances
    are added, of the kinds it lacks: retrieval sequences are alternatives (PS3.4 CC.2.5-2c).
    """
    found: list[DicomJson] = []
    for item in input_items(attributes):
        wanted = [reference.sop_instance_uid for reference in listed_instances([item])]
        if not wanted or any(not places.get(uid) for uid in wanted):
            return None
        shared = (place for place in places[wanted[0]] if all(place in places[uid] for uid in wanted))
        place = next(shared, None)
        found.append(item if place is None else merged([_retrieval(place, item), item]))
    return merged(
        [
            element("InputReadinessState", InputReadinessState.READY.value),
            element("InputInformationSequence", *found),
        ]
    )


def _retrieval(place: Place, item: DicomJson) -> DicomJson:
    parts = []
    if place.url:
        address = f"{place.url.rstrip('/')}/studies/{text(item, 'StudyInstanceUID')}"
        series = text(item, "SeriesInstanceUID")
        address += f"/series/{series}" if series else ""
        parts.append(element("WADORSRetrievalSequence", element("RetrieveURL", address)))
    if place.ae_title:
        parts.append(element("DICOMRetrievalSequence", element("RetrieveAETitle", place.ae_title)))
    return merged(parts)


class Readiness:
    """Looks again and again whether what workitems wait for has come. For one thread.

    Parameters
    ----------
    transact
        Opens a transaction over workitems.
    archives
        Asked in this order.
    poll
        Pause between two questions to the archives.
    give_up
        How long after its create a workitem whose inputs never came is canceled (110523).
    base_url
        Of our own DICOMweb door.
    """

    def __init__(
        self,
        transact: Callable[[], AbstractContextManager[WorklistTransaction]],
        database: Database,
        archives: Sequence[ArchiveQuery],
        *,
        poll: timedelta,
        give_up: timedelta,
        base_url: Callable[[], str],
        clock: Callable[[], datetime],
    ) -> None:
        self._transact = transact
        self._database = database
        self._archives = tuple(archives)
        self._poll = poll
        self._give_up = give_up
        self._base_url = base_url
        self._clock = clock
        self._looked_at: datetime | None = None
        self._asked_at: datetime | None = None
        self._pause = _BETWEEN_LOOKS
        self._woken = True

    def wake(self) -> None:
        """Something has come that may be waited for: look again soon."""
        self._woken = True

    def run_due(self) -> int:
        """Make ready what has all its inputs, give up what waited too long; how many workitems changed.

        Raises
        ------
        StoreError
            If the database fails.
        """
        now = self._clock()
        if now < self._next_look(now):
            return 0
        self._woken = False
        asking = self._asked_at is None or now - self._asked_at >= self._poll
        changed, waited, after = 0, False, None
        asked: dict[tuple[str, str], frozenset[str]] = {}
        while page := self._page(after):
            waited = True
            for created_at, uid in page:
                try:
                    changed += self._look(uid, created_at, now, asked if asking else None)
                except StoreError:
                    raise
                except Exception as error:  # noqa: BLE001 - the edge of one workitem: the others must go on
                    extra = {"action": "readiness.failed", "workitem": uid, **facts_of(error)}
                    _LOG.error("inputs of a workitem could not be looked for", extra=extra)
            after = page[-1]
        self._looked_at = self._clock()
        self._pause = max(_BETWEEN_LOOKS, _TIMES_AS_LONG * (self._looked_at - now))
        if asking and waited:
            self._asked_at = self._looked_at
        return changed

    def next_due(self) -> datetime | None:
        """When to look again; None while nothing waits.

        Raises
        ------
        StoreError
            If the database fails.
        """
        with self._database.read() as connection:
            oldest = availability.first_waiting(connection)
        return None if oldest is None else self._next_look(self._clock())

    def _next_look(self, now: datetime) -> datetime:
        """At each wake, but not more often than bearable; without one, as often as archives are asked."""
        if self._looked_at is None:
            return now
        return self._looked_at + (self._pause if self._woken else max(self._pause, self._poll))

    def _page(self, after: tuple[datetime, str] | None) -> list[tuple[datetime, str]]:
        with self._database.read() as connection:
            return availability.waiting_for_inputs(connection, after=after, limit=_PAGE)

    def _look(
        self,
        uid: str,
        created_at: datetime,
        now: datetime,
        asked: dict[tuple[str, str], frozenset[str]] | None,
    ) -> bool:
        """Look for the inputs of one workitem; whether it was changed.

        Archives are asked outside any transaction: they may take their time.
        """
        with self._database.read() as connection:
            waiting = workitems.workitem_by_uid(connection, uid)
            attributes = waiting.attributes if waiting is not None else {}
            places = self._known_places(connection, attributes)
        if asked is not None:
            self._ask(attributes, places, asked)
        with_inputs = ready_changes(attributes, places) if input_items(attributes) else None
        if with_inputs is None:
            return now - created_at >= self._give_up and self._withdraw(uid)
        with self._transact() as work:
            workitem = work.get(uid)
            if not _waits(workitem) or workitem is None:
                return False
            changes = ready_changes(workitem.attributes, places)  # its creator may have changed the list
            if changes is None:
                return False
            outcome = work.apply(uid, Rearrange(changes=changes), actor=WORKER)
        if isinstance(outcome, Refused):
            extra = {"action": "readiness.refused", "workitem": uid, "code": outcome.code.value}
            _LOG.error("inputs of a workitem cannot be told", extra=extra)
            return False
        _LOG.info("inputs of a workitem have come", extra={"action": "workitem.ready", "workitem": uid})
        return True

    def _known_places(self, connection: Connection, attributes: DicomJson) -> dict[str, list[Place]]:
        """Where the inputs are, as far as is known here: our store first, then who told of them."""
        wanted = [reference.sop_instance_uid for reference in listed_instances(input_items(attributes))]
        if not wanted:
            return {}
        ours = Place(name=_OURS, url=self._base_url())
        places: dict[str, list[Place]] = {}
        for instance in studies.find_instances(connection, sop_instance_uids=wanted):
            places.setdefault(instance.sop_instance_uid, []).append(ours)
        for uid, told in availability.available(connection, wanted).items():
            places.setdefault(uid, []).extend(self._place(one) for one in told)
        return places

    def _place(self, told: Availability) -> Place:
        """Where a notification says it is. Its URL is from outside: only that of an archive is passed on."""
        archive = next(
            (
                archive.url
                for archive in self._archives
                if archive.url and told.retrieve_url.startswith(f"{archive.url.rstrip('/')}/")
            ),
            "",
        )
        return Place(name=told.source, url=archive, ae_title=told.retrieve_ae_title)

    def _ask(
        self,
        attributes: DicomJson,
        places: dict[str, list[Place]],
        asked: dict[tuple[str, str], frozenset[str]],
    ) -> None:
        """Ask the archives for what is missing, each once for a study."""
        for archive in self._archives:
            place = Place(name=archive.name, url=archive.url, ae_title=archive.ae_title)
            for reference in listed_instances(input_items(attributes)):
                if places.get(reference.sop_instance_uid):
                    continue
                key = (archive.name, reference.study_instance_uid)
                if key not in asked:
                    asked[key] = self._answer(archive, reference.study_instance_uid)
                if reference.sop_instance_uid in asked[key]:
                    places.setdefault(reference.sop_instance_uid, []).append(place)

    def _answer(self, archive: ArchiveQuery, study_instance_uid: str) -> frozenset[str]:
        try:
            return archive.available_instances(study_instance_uid)
        except DeliveryError as error:
            extra = {"action": "readiness.no_answer", "archive": archive.name, "error": str(error)}
            _LOG.warning("an archive does not say what it has", extra=extra)
            return frozenset()

    def _withdraw(self, uid: str) -> bool:
        with self._transact() as work:
            workitem = work.get(uid)
            if not _waits(workitem):
                return False
            command = Withdraw(reason=OBJECT_SET_INCOMPLETE, text="inputs did not become available in time")
            given_up = not isinstance(work.apply(uid, command, actor=WORKER), Refused)
        _LOG.warning("inputs never came", extra={"action": "workitem.no_inputs", "workitem": uid})
        return given_up


def _waits(workitem: Workitem | None) -> bool:
    return (
        workitem is not None
        and workitem.state is ProcedureStepState.SCHEDULED
        and text(workitem.attributes, "InputReadinessState") == InputReadinessState.UNAVAILABLE.value
    )
