# SPDX-License-Identifier: Apache-2.0
"""From UNAVAILABLE to READY when all inputs are there, and given up when they never come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest

from profiles.dicom_json import DicomJson, element, items, text
from profiles.ups.references import listed_instances
from task_manager.actor import Actor
from task_manager.dispatch.availability import StoredAvailability
from task_manager.dispatch.model import PerformerOffer
from task_manager.dispatch.readiness import ArchiveQuery, Place, Readiness, ready_changes
from task_manager.dispatching import DispatchSettings
from task_manager.errors import RetryableDeliveryError
from task_manager.store.arriving import Recorded, add_instances
from task_manager.store.database import Database
from task_manager.study.model import Instance
from tests.contract.workitems import instances, minimal
from tests.service import START
from tests.unit.task_manager.dispatch.test_availability import PACS, notification, reference
from tests.unit.task_manager.dispatch.working import BASE, WorkingBed, X, reason_of

ONE, TWO = "1.2.3.4.1", "1.2.3.4.2"
OURS = Place(name="store", url=BASE)
VIA_AE = Place(name="ian:PACS1", ae_title="PACS1")
BARE = instances(
    WADORSRetrievalSequence=None, WADORetrievalSequence=element("RetrieveURI", "http://wado.test/wado")
)


class KnownArchive:
    """An archive in memory; implements ArchiveQuery."""

    def __init__(
        self, *uids: str, name: str = "vna", url: str = "http://vna.test/rs", ae_title: str = ""
    ) -> None:
        self.uids = set(uids)
        self.name = name
        self.url = url
        self.ae_title = ae_title
        self.asked: list[str] = []
        self.answers = True

    def available_instances(self, study_instance_uid: str) -> frozenset[str]:
        self.asked.append(study_instance_uid)
        if not self.answers:
            raise RetryableDeliveryError("no answer")
        return frozenset(self.uids)


class Waiting:
    """A manager with a workitem whose inputs are not there yet."""

    def __init__(self, database: Database, *archives: ArchiveQuery, item: DicomJson = BARE) -> None:
        self.bed = WorkingBed(database, DispatchSettings(performers=(PerformerOffer(ae_title="ONE"),)))
        self.bed.create(InputReadinessState="UNAVAILABLE", InputInformationSequence=item)
        self.readiness = Readiness(
            self.bed.worklist.transact,
            database,
            archives,
            poll=timedelta(minutes=1),
            give_up=timedelta(hours=72),
            base_url=lambda: BASE,
            clock=self.bed.clock,
        )

    def look(self, seconds: float = 2.0) -> int:
        self.readiness.wake()
        self.bed.clock.pass_(seconds)
        return self.readiness.run_due()

    def tell(self, content: DicomJson, actor: Actor = PACS) -> None:
        door = StoredAvailability(self.bed.database.write, clock=self.bed.clock, told=self.readiness.wake)
        door.receive_availability(content, actor=actor)

    def store(self, *uids: str) -> None:
        with self.bed.database.write() as connection:
            recorded = [Recorded(instance=stored(uid), copy_number=0, source="CT1") for uid in uids]
            add_instances(connection, recorded)

    @property
    def state(self) -> str:
        return text(self.bed.attributes(), "InputReadinessState")

    @property
    def inputs(self) -> list[DicomJson]:
        return items(self.bed.attributes(), "InputInformationSequence")


def stored(uid: str) -> Instance:
    return Instance(
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.4",
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        instance_number=1,
        path=f"{uid}.dcm",
        size=1,
        received_at=START,
        attributes={},
    )


def address(item: DicomJson) -> tuple[str, str]:
    """(URL, AE title) of an input item."""
    web = items(item, "WADORSRetrievalSequence")
    dimse = items(item, "DICOMRetrievalSequence")
    return text(web[0], "RetrieveURL") if web else "", text(dimse[0], "RetrieveAETitle") if dimse else ""


@pytest.mark.parametrize(
    ("item", "places", "found"),
    [
        pytest.param(BARE, {ONE: [OURS]}, None, id="one-is-missing"),
        pytest.param(BARE, {}, None, id="all-are-missing"),
        pytest.param(
            BARE,
            {ONE: [OURS], TWO: [OURS]},
            [((f"{BASE}/studies/1.2.3/series/1.2.3.4", ""), [ONE, TWO])],
            id="our-store",
        ),
        pytest.param(
            BARE,
            {ONE: [OURS, VIA_AE], TWO: [VIA_AE]},
            [(("", "PACS1"), [ONE, TWO])],
            id="one-place-that-has-all",
        ),
        pytest.param(
            BARE,
            {ONE: [OURS], TWO: [VIA_AE]},
            [(("", ""), [ONE, TWO])],
            id="no-one-place-has-all",
        ),
        pytest.param(
            instances(),
            {ONE: [OURS], TWO: [OURS]},
            [(("http://archive.test/studies/1.2.3", ""), [ONE, TWO])],
            id="its-own-address-stays",
        ),
        pytest.param(
            instances(),
            {ONE: [VIA_AE], TWO: [VIA_AE]},
            [(("http://archive.test/studies/1.2.3", "PACS1"), [ONE, TWO])],
            id="another-kind-is-added",
        ),
    ],
)
def test_where_the_inputs_of_a_ready_workitem_are(
    item: DicomJson,
    places: Mapping[str, Sequence[Place]],
    found: list[tuple[tuple[str, str], list[str]]] | None,
) -> None:
    changes = ready_changes(minimal(InputInformationSequence=item), places)

    if found is None:
        assert changes is None
        return
    assert changes is not None
    assert text(changes, "InputReadinessState") == "READY"
    told = items(changes, "InputInformationSequence")
    assert [(address(one), [r.sop_instance_uid for r in listed_instances([one])]) for one in told] == found


def test_our_own_store_makes_it_ready_and_assigned(database: Database) -> None:
    waiting = Waiting(database)
    assert (waiting.look(), waiting.state, waiting.bed.station()) == (0, "UNAVAILABLE", "")

    waiting.store(ONE)
    assert (waiting.look(), waiting.state) == (0, "UNAVAILABLE")
    waiting.store(TWO)
    assert (waiting.look(), waiting.state) == (1, "READY")

    assert waiting.bed.station() == "ONE"
    assert [address(one) for one in waiting.inputs] == [(f"{BASE}/studies/1.2.3/series/1.2.3.4", "")]
    assert waiting.bed.events() == [(1, "SCHEDULED"), (1, "SCHEDULED"), (5, "SCHEDULED")]
    assert waiting.readiness.next_due() is None


def test_notifications_make_it_ready(database: Database) -> None:
    waiting = Waiting(database)

    waiting.tell(notification(reference(1), reference(2, InstanceAvailability="OFFLINE")))
    assert (waiting.look(), waiting.state) == (0, "UNAVAILABLE")
    waiting.tell(notification(reference(2, InstanceAvailability="NEARLINE")))

    assert (waiting.look(), waiting.state) == (1, "READY")
    assert [address(one) for one in waiting.inputs] == [("", "PACS1")]


@pytest.mark.parametrize(
    ("told", "passed_on"),
    [
        pytest.param(
            "http://vna.test/rs/studies/1.2.3", "http://vna.test/rs/studies/1.2.3/series/1.2.3.4", id="known"
        ),
        pytest.param("http://inside.test/secret", "", id="from-anywhere"),
        pytest.param("http://vna.test/rs.evil/studies", "", id="only-looks-like-it"),
    ],
)
def test_only_addresses_of_configured_archives_are_passed_on(
    database: Database, told: str, passed_on: str
) -> None:
    waiting = Waiting(database, KnownArchive())

    waiting.tell(notification(reference(1, RetrieveURL=told), reference(2, RetrieveURL=told)))
    waiting.look()

    assert [address(one) for one in waiting.inputs] == [(passed_on, "PACS1")]


def test_archives_are_asked_once_a_study_and_no_more_often_than_configured(database: Database) -> None:
    silent, vna = KnownArchive(name="silent", url=""), KnownArchive(ONE, ae_title="VNA")
    silent.answers = False
    waiting = Waiting(database, silent, vna)
    waiting.look()
    waiting.look(30)
    assert (silent.asked, vna.asked) == (["1.2.3"], ["1.2.3"])

    vna.uids.add(TWO)
    assert (waiting.look(31), waiting.state) == (1, "READY")

    assert [address(one) for one in waiting.inputs] == [
        ("http://vna.test/rs/studies/1.2.3/series/1.2.3.4", "VNA")
    ]


def test_without_news_it_looks_when_archives_may_be_asked_again(database: Database) -> None:
    waiting = Waiting(database, KnownArchive())
    waiting.look()
    looked_at = waiting.bed.clock.now

    assert waiting.readiness.next_due() == looked_at + timedelta(minutes=1)
    waiting.readiness.wake()
    assert waiting.readiness.next_due() == looked_at + timedelta(seconds=1)


def test_inputs_that_never_come_cancel_it(database: Database) -> None:
    waiting = Waiting(database)
    waiting.look(3600 * 71)
    assert waiting.bed.state() == "SCHEDULED"

    waiting.look(3600 + 1)

    assert (waiting.bed.state(), reason_of(waiting.bed.attributes())) == ("CANCELED", "110523")


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(
            {"InputReadinessState": "INCOMPLETE", "InputInformationSequence": BARE}, id="C.30.2-incomplete"
        ),
        pytest.param({"InputReadinessState": "UNAVAILABLE", "InputInformationSequence": ()}, id="no-list"),
    ],
)
def test_a_list_that_is_not_whole_is_left_to_its_creator(
    database: Database, given: dict[str, DicomJson]
) -> None:
    waiting = Waiting(database)
    waiting.bed.create("1.2.8", **given)  # type: ignore[arg-type]
    waiting.store(ONE, TWO)

    waiting.look()

    kept = text(waiting.bed.attributes("1.2.8"), "InputReadinessState")
    assert kept == text(minimal(**given), "InputReadinessState")
    assert waiting.state == "READY"
    assert text(waiting.bed.attributes(X), "InputReadinessState") == "READY"


def test_more_workitems_than_a_page_are_all_seen(database: Database) -> None:
    waiting = Waiting(database)
    with waiting.bed.worklist.transact() as work:
        for number in range(250):
            content = minimal(InputReadinessState="UNAVAILABLE", InputInformationSequence=BARE)
            work.create(f"1.5.{number}", content, actor=PACS)
    waiting.store(ONE, TWO)

    assert waiting.look() == 251
    assert element("InputReadinessState", "READY").items() <= waiting.bed.attributes("1.5.249").items()
