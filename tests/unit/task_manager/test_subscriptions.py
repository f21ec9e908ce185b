# SPDX-License-Identifier: Apache-2.0
"""What the contract of subscriptions does not say: bounds, purged workitems, a subscription broken off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profiles.dicom_json import element
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from task_manager.errors import StoreError
from task_manager.outcome import RefusalCode, Refused
from task_manager.store.database import Database
from task_manager.store.subscriptions import GlobalSubscription, put_global
from task_manager.store.tables import METADATA
from task_manager.subscriptions import MOST_GLOBAL
from tests.watching import Office, must

UID = "2.25.100"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    database = Database(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    yield Office(database)
    database.close()


def test_a_workitem_that_was_deleted_is_gone_and_not_unknown(office: Office) -> None:
    with office.database.write() as connection:
        purged = METADATA.tables["purged_workitem"].insert()
        connection.execute(purged.values(uid=UID, purged_at=office.clock()))

    for ask in (office.subscribe, office.unsubscribe, office.suspend):
        outcome = ask(UID)
        assert isinstance(outcome, Refused)
        assert outcome.code is RefusalCode.NO_LONGER_HERE


def test_global_subscriptions_are_bounded_and_can_still_be_changed(office: Office) -> None:
    with office.database.write() as connection:
        for number in range(MOST_GLOBAL):
            put_global(connection, GlobalSubscription(receiving_ae=f"W{number}", deletion_lock=False))

    outcome = office.subscribe(GLOBAL_SUBSCRIPTION_UID, "LATE")

    assert isinstance(outcome, Refused)
    assert outcome.code is RefusalCode.OUT_OF_RESOURCES
    must(office.subscribe(GLOBAL_SUBSCRIPTION_UID, "W1", lock=True))
    must(office.unsubscribe(GLOBAL_SUBSCRIPTION_UID, "W2"))
    must(office.subscribe(GLOBAL_SUBSCRIPTION_UID, "LATE"))


def test_a_filter_has_a_size_it_may_have(office: Office) -> None:
    matching = element("SOPInstanceUID", *(f"2.25.{number}" for number in range(10_000)))

    outcome = office.subscribe(FILTERED_GLOBAL_SUBSCRIPTION_UID, matching=matching)

    assert isinstance(outcome, Refused)
    assert outcome.code is RefusalCode.UNSUPPORTED_MATCHING


def test_a_global_subscription_that_broke_off_is_completed_by_asking_again(tmp_path: Path) -> None:
    class Failing(Database):
        writes_left = 1_000_000

        def write(self):  # type: ignore[no-untyped-def]
            self.writes_left -= 1
            if self.writes_left < 0:
                raise StoreError("away")
            return super().write()

    database = Failing(f"sqlite:///{tmp_path / 'airway.db'}")
    database.migrate()
    office = Office(database)
    for number in range(3):
        office.create(f"2.25.{number + 10}")
    database.writes_left = 1
    with pytest.raises(StoreError):
        office.subscribe(GLOBAL_SUBSCRIPTION_UID, lock=True)
    database.writes_left = 1_000_000
    assert office.told() == []

    must(office.subscribe(GLOBAL_SUBSCRIPTION_UID, lock=True))

    assert office.told() == [(f"2.25.{number + 10}", 1, "SCHEDULED") for number in range(3)]
    database.close()
