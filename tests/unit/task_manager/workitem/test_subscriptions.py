# SPDX-License-Identifier: Apache-2.0
"""Every cell of PS3.4 table CC.2.3-2, entered a second time as it is printed."""

from __future__ import annotations

import pytest

from task_manager.workitem.subscriptions import (
    GLOBAL_STATES,
    SUBSCRIPTIONS,
    Cell,
    GlobalState,
    SubscriptionEvent,
    SubscriptionState,
)

# Columns: Not Subscribed, with Lock, without Lock. A star: an initial event report is due.
PRINTED = """
CREATED              -    .    .
CREATED_WITH_LOCK    L*   .    .
CREATED_WITHOUT_LOCK U*   .    .
GLOBAL_WITH_LOCK     L*   L    U
GLOBAL_WITHOUT_LOCK  U    L    U
ITEM_WITH_LOCK       L*   L*   L*
ITEM_WITHOUT_LOCK    U*   U*   U*
UNSUBSCRIBE_ITEM     -    -    -
UNSUBSCRIBE_GLOBAL   -    -    -
SUSPEND_GLOBAL       -    L    U
"""
COLUMNS = (SubscriptionState.NOT_SUBSCRIBED, SubscriptionState.WITH_LOCK, SubscriptionState.WITHOUT_LOCK)
STATES = dict(zip("-LU", COLUMNS, strict=True))
CASES = [
    pytest.param(SubscriptionEvent[row.split()[0]], column, cell, id=f"{row.split()[0]}-{column.name}")
    for row in PRINTED.strip().splitlines()
    for column, cell in zip(COLUMNS, row.split()[1:], strict=True)
]


@pytest.mark.parametrize(("event", "state", "printed"), CASES)
def test_each_cell_is_the_printed_one(
    event: SubscriptionEvent, state: SubscriptionState, printed: str
) -> None:
    found = SUBSCRIPTIONS[event].get(state)

    assert found == (None if printed == "." else Cell(STATES[printed[0]], printed.endswith("*")))


def test_every_event_has_a_row_and_no_row_has_another_state() -> None:
    assert set(SUBSCRIPTIONS) == set(SubscriptionEvent)
    assert {state for row in SUBSCRIPTIONS.values() for state in row} == set(SubscriptionState)


@pytest.mark.parametrize("event", list(SubscriptionEvent))
def test_only_what_is_said_of_the_whole_worklist_changes_the_global_state(event: SubscriptionEvent) -> None:
    expected = {
        SubscriptionEvent.GLOBAL_WITH_LOCK: GlobalState.WITH_LOCK,
        SubscriptionEvent.GLOBAL_WITHOUT_LOCK: GlobalState.WITHOUT_LOCK,
        SubscriptionEvent.UNSUBSCRIBE_GLOBAL: GlobalState.NONE,
        SubscriptionEvent.SUSPEND_GLOBAL: GlobalState.NONE,
    }
    assert GLOBAL_STATES.get(event) == expected.get(event)
