# SPDX-License-Identifier: Apache-2.0
"""What every implementation of ``task_manager.ports.Subscriptions`` does; subclass with an `office` fixture.

States are seen as the standard shows them: by what an AE is told after, and by what keeps a workitem.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from profiles.dicom_json import DicomJson, element
from profiles.ups.states import FILTERED_GLOBAL_SUBSCRIPTION_UID, GLOBAL_SUBSCRIPTION_UID
from task_manager.notices import Channel
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.store import subscriptions
from task_manager.store.subscriptions import put_state, state_of
from task_manager.workitem.subscriptions import (
    SUBSCRIPTIONS,
    SubscriptionEvent,
    SubscriptionState,
)
from tests.contract.workitems import code, minimal
from tests.watching import ACTOR, Office, brief, must

UID, OTHER = "2.25.100", "2.25.200"
GLOBAL, FILTERED = GLOBAL_SUBSCRIPTION_UID, FILTERED_GLOBAL_SUBSCRIPTION_UID
LUNG = element("WorklistLabel", "LUNG")
EVENTS = {
    SubscriptionEvent.GLOBAL_WITH_LOCK: lambda office: office.subscribe(GLOBAL, lock=True),
    SubscriptionEvent.GLOBAL_WITHOUT_LOCK: lambda office: office.subscribe(GLOBAL),
    SubscriptionEvent.ITEM_WITH_LOCK: lambda office: office.subscribe(UID, lock=True),
    SubscriptionEvent.ITEM_WITHOUT_LOCK: lambda office: office.subscribe(UID),
    SubscriptionEvent.UNSUBSCRIBE_ITEM: lambda office: office.unsubscribe(UID),
    SubscriptionEvent.UNSUBSCRIBE_GLOBAL: lambda office: office.unsubscribe(GLOBAL),
    SubscriptionEvent.SUSPEND_GLOBAL: lambda office: office.suspend(GLOBAL),
}
CELLS = [
    pytest.param(event, state, id=f"{event.name}-{state.name}")
    for event in EVENTS
    for state in SUBSCRIPTIONS[event]
]
CREATIONS = {
    SubscriptionEvent.CREATED: None,
    SubscriptionEvent.CREATED_WITH_LOCK: True,
    SubscriptionEvent.CREATED_WITHOUT_LOCK: False,
}


def refusal(outcome: Accepted | Refused) -> RefusalCode:
    assert isinstance(outcome, Refused), outcome
    return outcome.code


def state(office: Office, uid: str = UID, receiving_ae: str = "WATCHER") -> SubscriptionState:
    with office.database.read() as connection:
        return state_of(connection, uid, receiving_ae)


def is_locked(office: Office, uid: str = UID) -> bool:
    with office.database.read() as connection:
        return subscriptions.is_locked(connection, uid)


class SubscriptionsContract:
    """The cases. `office` is empty."""

    @pytest.fixture
    def office(self) -> Office:
        raise NotImplementedError

    # Table CC.2.3-2

    @pytest.mark.parametrize(("event", "before"), CELLS)
    def test_each_cell_of_the_table(
        self, office: Office, event: SubscriptionEvent, before: SubscriptionState
    ) -> None:
        office.create(UID)
        with office.database.write() as connection:
            put_state(connection, UID, "WATCHER", before)
        position = office.journal.latest()

        EVENTS[event](office)

        cell = SUBSCRIPTIONS[event][before]
        assert state(office) is cell.state
        assert office.told(position=position) == ([(UID, 1, "SCHEDULED")] if cell.initial_event else [])

    @pytest.mark.parametrize("event", list(CREATIONS))
    def test_each_cell_of_creation(self, office: Office, event: SubscriptionEvent) -> None:
        locked = CREATIONS[event]
        if locked is not None:
            must(office.subscribe(GLOBAL, lock=locked))

        office.create(UID)

        cell = SUBSCRIPTIONS[event][SubscriptionState.NOT_SUBSCRIBED]
        assert state(office) is cell.state
        assert office.told() == ([(UID, 1, "SCHEDULED")] if cell.initial_event else [])

    # Workitems

    def test_a_watcher_is_told_everything_after_its_initial_report(self, office: Office) -> None:
        office.create(UID)
        must(office.subscribe(UID))
        office.claim(UID)
        office.progress(UID, 50)
        office.request_cancel(UID)
        office.complete(UID)

        assert office.told() == [
            (UID, 1, "SCHEDULED"),
            (UID, 1, "IN PROGRESS"),
            (UID, 3, ""),
            (UID, 2, ""),
            (UID, 1, "COMPLETED"),
        ]

    def test_other_watchers_are_not_told_of_it(self, office: Office) -> None:
        office.create(UID)
        office.create(OTHER)
        must(office.subscribe(UID))
        must(office.subscribe(OTHER, "OTHER"))
        office.claim(UID)

        assert [uid for uid, _, _ in office.told("OTHER")] == [OTHER]

    def test_the_initial_report_tells_the_present_state(self, office: Office) -> None:
        office.create(UID)
        office.claim(UID)
        must(office.subscribe(UID))

        assert office.told() == [(UID, 1, "IN PROGRESS")]

    def test_a_subscriber_of_a_workitem_to_be_canceled_is_told_that_too(self, office: Office) -> None:
        office.create(UID)
        office.claim(UID)
        office.request_cancel(UID)
        must(office.subscribe(UID))

        assert office.told() == [(UID, 1, "IN PROGRESS"), (UID, 2, "")]

    def test_subscribing_again_keeps_what_is_still_owed(self, office: Office) -> None:
        office.create(UID)
        must(office.subscribe(UID))
        office.claim(UID)
        must(office.subscribe(UID, lock=True))

        assert office.told() == [(UID, 1, "SCHEDULED"), (UID, 1, "IN PROGRESS"), (UID, 1, "IN PROGRESS")]

    def test_what_happened_between_two_subscriptions_is_not_owed(self, office: Office) -> None:
        office.create(UID)
        must(office.subscribe(UID))
        must(office.unsubscribe(UID))
        office.claim(UID)
        position = office.journal.latest()
        must(office.subscribe(UID))
        office.progress(UID, 10)

        assert office.told(position=0)[-2:] == [(UID, 1, "IN PROGRESS"), (UID, 3, "")]
        assert len(office.told(position=position)) == 2

    def test_a_canceled_scheduled_workitem_tells_both_states(self, office: Office) -> None:
        office.create(UID)
        must(office.subscribe(UID))
        office.request_cancel(UID)

        assert office.told()[1:] == [(UID, 1, "IN PROGRESS"), (UID, 1, "CANCELED")]

    def test_an_assigned_workitem_tells_that_after_its_creation(self, office: Office) -> None:
        must(office.subscribe(GLOBAL))
        office.create(UID, ScheduledStationNameCodeSequence=code("PERF1", "L", "Performer"))

        assert office.told() == [(UID, 1, "SCHEDULED"), (UID, 5, "")]

    # The whole worklist

    def test_a_global_subscription_with_lock_tells_each_workitem_once(self, office: Office) -> None:
        for number in range(3):
            office.create(f"2.25.{number + 10}")
        must(office.subscribe("2.25.10"))
        position = office.journal.latest()

        must(office.subscribe(GLOBAL, lock=True))
        must(office.subscribe(GLOBAL, lock=True))

        assert office.told(position=position) == [("2.25.11", 1, "SCHEDULED"), ("2.25.12", 1, "SCHEDULED")]
        assert state(office, "2.25.10") is SubscriptionState.WITHOUT_LOCK
        assert is_locked(office, "2.25.11")

    def test_after_a_suspension_known_workitems_are_told_and_new_ones_not(self, office: Office) -> None:
        must(office.subscribe(GLOBAL))
        office.create(UID)
        must(office.suspend(GLOBAL))
        office.create(OTHER)
        office.claim(UID)
        office.claim(OTHER)

        assert office.told() == [(UID, 1, "SCHEDULED"), (UID, 1, "IN PROGRESS")]

    def test_unsubscribing_globally_ends_everything_of_that_ae_only(self, office: Office) -> None:
        office.create(UID)
        for name in ("WATCHER", "OTHER"):
            must(office.subscribe(UID, name))
            must(office.subscribe(GLOBAL, name))
            must(office.subscribe(FILTERED, name, matching=LUNG))
        position = office.journal.latest()

        must(office.unsubscribe(GLOBAL))
        office.claim(UID)
        office.create(OTHER, WorklistLabel="LUNG")

        assert office.told(position=position) == []
        assert office.told("OTHER", position) == [(UID, 1, "IN PROGRESS"), (OTHER, 1, "SCHEDULED")]

    def test_more_workitems_than_are_looked_at_in_one_go(self, office: Office) -> None:
        uids = [f"2.25.9{number:04}" for number in range(1101)]
        with office.worklist.transact() as work:
            for uid in uids:
                must(work.create(uid, minimal(), actor=ACTOR))
        must(office.subscribe(GLOBAL, lock=True))

        told = [uid for uid, _, _ in brief(office.journal.pending("WATCHER", 0, limit=5000))]
        assert told == uids

    # At the same time

    def test_no_workitem_falls_between_its_creation_and_a_global_subscription(self, office: Office) -> None:
        uids = [f"2.25.8{number:03}" for number in range(60)]
        names = [f"W{number}" for number in range(6)]
        with ThreadPoolExecutor(8) as pool:
            creating = [pool.submit(office.create, uid, WorklistLabel="LUNG") for uid in uids]
            asking = [pool.submit(office.subscribe, GLOBAL, name, lock=True) for name in names[:4]]
            asking += [pool.submit(office.subscribe, FILTERED, name, matching=LUNG) for name in names[4:]]
            for future in creating:
                future.result()
            for answer in asking:
                must(answer.result())

        for name in names[:4]:
            assert sorted(uid for uid, _, _ in office.told(name)) == uids
        office.claim(uids[0])
        for name in names:
            assert office.told(name)[-1] == (uids[0], 1, "IN PROGRESS")
            assert {state(office, uid, name) for uid in uids}.isdisjoint({SubscriptionState.NOT_SUBSCRIBED})

    def test_an_initial_report_never_tells_a_state_that_was_left(self, office: Office) -> None:
        uids = [f"2.25.8{number:03}" for number in range(40)]
        for uid in uids:
            office.create(uid)
        with ThreadPoolExecutor(8) as pool:
            for future in [
                pool.submit(work, uid) for uid in uids for work in (office.claim, office.subscribe)
            ]:
                future.result()

        for uid in uids:
            told = [told_state for told_uid, _, told_state in office.told() if told_uid == uid]
            assert told in (["SCHEDULED", "IN PROGRESS"], ["IN PROGRESS"]), uid

    # Filters

    def test_a_filter_takes_what_matches_now_and_later(self, office: Office) -> None:
        office.create("2.25.10", WorklistLabel="LUNG")
        office.create("2.25.11", WorklistLabel="HEART")

        must(office.subscribe(FILTERED, lock=True, matching=LUNG))
        office.create("2.25.12", WorklistLabel="LUNG")
        office.create("2.25.13", WorklistLabel="HEART")

        assert office.told() == [("2.25.10", 1, "SCHEDULED"), ("2.25.12", 1, "SCHEDULED")]
        assert [is_locked(office, f"2.25.{number}") for number in (10, 11, 12)] == [True, False, True]

    def test_an_ae_has_one_filter_and_the_last_wins(self, office: Office) -> None:
        must(office.subscribe(FILTERED, matching=LUNG))
        must(office.subscribe(FILTERED, matching=element("WorklistLabel", "HEART")))
        office.create("2.25.10", WorklistLabel="LUNG")
        office.create("2.25.11", WorklistLabel="HEART")

        assert office.told() == [("2.25.11", 1, "SCHEDULED")]

    def test_ending_a_filter_ends_only_what_it_made(self, office: Office) -> None:
        for number in (10, 11):
            office.create(f"2.25.{number}", WorklistLabel="LUNG")
        must(office.subscribe(FILTERED, matching=LUNG))
        must(office.subscribe("2.25.10"))
        must(office.unsubscribe(FILTERED))
        office.create("2.25.12", WorklistLabel="LUNG")

        states = [state(office, f"2.25.{number}") for number in (10, 11, 12)]
        assert [one is SubscriptionState.NOT_SUBSCRIBED for one in states] == [False, True, True]

    def test_a_global_subscription_outlives_the_filter_beside_it(self, office: Office) -> None:
        office.create("2.25.10", WorklistLabel="LUNG")
        must(office.subscribe(FILTERED, matching=LUNG))
        must(office.subscribe(GLOBAL))
        must(office.unsubscribe(FILTERED))
        office.create("2.25.11", WorklistLabel="LUNG")

        assert state(office, "2.25.10") is state(office, "2.25.11") is SubscriptionState.WITHOUT_LOCK

    def test_suspending_a_filter_leaves_the_global_subscription(self, office: Office) -> None:
        must(office.subscribe(FILTERED, matching=LUNG))
        must(office.subscribe(GLOBAL))
        must(office.suspend(FILTERED))
        office.create(UID)

        assert office.told() == [(UID, 1, "SCHEDULED")]
        assert refusal(office.suspend(FILTERED)) is RefusalCode.NOT_SUBSCRIBED

    @pytest.mark.parametrize(
        ("matching", "code_expected"),
        [
            pytest.param({}, RefusalCode.MISSING_ATTRIBUTE, id="no keys"),
            pytest.param(element("TransactionUID", "1.2"), RefusalCode.UNSUPPORTED_MATCHING, id="secret"),
            pytest.param(
                element("ScheduledProcedureStepStartDateTime", "soon"),
                RefusalCode.UNSUPPORTED_MATCHING,
                id="no time",
            ),
        ],
    )
    def test_a_filter_that_cannot_be_one_is_refused(
        self, office: Office, matching: DicomJson, code_expected: RefusalCode
    ) -> None:
        assert refusal(office.subscribe(FILTERED, matching=matching)) is code_expected

    # Deletion locks

    def test_a_lock_is_held_until_the_last_one_lets_go(self, office: Office) -> None:
        office.create(UID)
        must(office.subscribe(UID, "A", lock=True))
        must(office.subscribe(UID, "B", lock=True))
        assert is_locked(office)

        must(office.subscribe(UID, "A"))
        assert is_locked(office)
        must(office.unsubscribe(UID, "B"))
        assert not is_locked(office)

    def test_a_lock_that_is_not_granted_is_said(self, office: Office) -> None:
        strict = Office(office.database, deletion_locks=False)
        strict.create(UID)

        outcome = must(strict.subscribe(UID, lock=True))
        globally = must(strict.subscribe(GLOBAL, "OTHER", lock=True))

        assert outcome.warnings == globally.warnings == (WarningCode.LOCK_NOT_GRANTED,)
        assert not is_locked(strict)
        assert state(strict) is SubscriptionState.WITHOUT_LOCK

    # Refusals

    @pytest.mark.parametrize("receiving_ae", ["", "   ", "A" * 17, "A\\B", "ÄE", "A\nB"])
    def test_what_is_no_ae_title_is_refused_everywhere(self, office: Office, receiving_ae: str) -> None:
        office.create(UID)
        for target in (UID, GLOBAL):
            for ask in (office.subscribe, office.unsubscribe, office.suspend):
                assert refusal(ask(target, receiving_ae)) is RefusalCode.INVALID_ATTRIBUTES

    def test_spaces_around_an_ae_title_mean_nothing(self, office: Office) -> None:
        office.create(UID)
        must(office.subscribe(UID, " WATCHER "))
        must(office.unsubscribe(UID, "WATCHER"))

        assert state(office) is SubscriptionState.NOT_SUBSCRIBED

    def test_an_unknown_workitem_is_refused_everywhere(self, office: Office) -> None:
        for ask in (office.subscribe, office.unsubscribe, office.suspend):
            assert refusal(ask(UID)) is RefusalCode.NO_SUCH_INSTANCE

    def test_who_listens_over_dimse_must_be_callable(self, office: Office) -> None:
        office.create(UID)

        assert refusal(office.subscribe(UID, "NOBODY", channel=Channel.DIMSE)) is (
            RefusalCode.UNKNOWN_RECEIVING_AE
        )
        must(office.subscribe(UID, "PEER1", channel=Channel.DIMSE))
        assert [one.receiving_ae for one in office.journal.listeners(Channel.DIMSE)] == ["PEER1"]

    def test_suspending_a_workitem_is_not_appropriate(self, office: Office) -> None:
        office.create(UID)

        assert refusal(office.suspend(UID)) is RefusalCode.NOT_APPROPRIATE

    @pytest.mark.parametrize("target", [UID, GLOBAL, FILTERED])
    def test_ending_what_is_not_there_is_told(self, office: Office, target: str) -> None:
        office.create(UID)

        assert refusal(office.unsubscribe(target)) is RefusalCode.NOT_SUBSCRIBED

    def test_who_subscribes_over_http_is_called_no_more(self, office: Office) -> None:
        office.create(UID)
        must(office.subscribe(UID, "PEER1", channel=Channel.DIMSE))
        must(office.subscribe(UID, "PEER1", channel=Channel.WEBSOCKET))

        assert office.journal.listeners(Channel.DIMSE) == []
        assert [one.receiving_ae for one in office.journal.listeners(Channel.WEBSOCKET)] == ["PEER1"]
