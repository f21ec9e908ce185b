# SPDX-License-Identifier: Apache-2.0
"""The literal table of subscription states, PS3.4 table CC.2.3-2 (2020 text). Only data lives here.

A cell tells what an AE is to one workitem after an event, and whether an initial event report is due to it.
``task_manager.subscriptions`` looks its answers up here and has no rule about these states of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class SubscriptionState(StrEnum):
    """What an AE is to one workitem (CC.2.3-1)."""

    NOT_SUBSCRIBED = "Not Subscribed"
    WITH_LOCK = "Subscribed with Lock"
    WITHOUT_LOCK = "Subscribed without Lock"


class GlobalState(StrEnum):
    """What an AE is to the whole worklist."""

    NONE = "No Global Subscription"
    WITH_LOCK = "Global Subscription with Lock"
    WITHOUT_LOCK = "Global Subscription without Lock"


class SubscriptionEvent(StrEnum):
    """The rows of the table."""

    CREATED = "workitem created, AE has no global subscription"
    CREATED_WITH_LOCK = "workitem created, AE has a global subscription with lock"
    CREATED_WITHOUT_LOCK = "workitem created, AE has a global subscription without lock"
    GLOBAL_WITH_LOCK = "AE subscribes globally with lock"
    GLOBAL_WITHOUT_LOCK = "AE subscribes globally without lock"
    ITEM_WITH_LOCK = "AE subscribes to this workitem with lock"
    ITEM_WITHOUT_LOCK = "AE subscribes to this workitem without lock"
    UNSUBSCRIBE_ITEM = "AE unsubscribes from this workitem"
    UNSUBSCRIBE_GLOBAL = "AE unsubscribes globally"
    SUSPEND_GLOBAL = "AE suspends its global subscription"


@dataclass(frozen=True, slots=True)
class Cell:
    """The next state, and whether a report of the present state is due at once.

    At creation the report of the creation itself is the initial one: it is not told twice.
    """

    state: SubscriptionState
    initial_event: bool = False


_S, _E = SubscriptionState, SubscriptionEvent

SUBSCRIPTIONS: Mapping[SubscriptionEvent, Mapping[SubscriptionState, Cell]] = {
    _E.CREATED: {
        _S.NOT_SUBSCRIBED: Cell(_S.NOT_SUBSCRIBED),
    },
    _E.CREATED_WITH_LOCK: {
        _S.NOT_SUBSCRIBED: Cell(_S.WITH_LOCK, True),
    },
    _E.CREATED_WITHOUT_LOCK: {
        _S.NOT_SUBSCRIBED: Cell(_S.WITHOUT_LOCK, True),
    },
    _E.GLOBAL_WITH_LOCK: {
        _S.NOT_SUBSCRIBED: Cell(_S.WITH_LOCK, True),
        _S.WITH_LOCK: Cell(_S.WITH_LOCK),
        _S.WITHOUT_LOCK: Cell(_S.WITHOUT_LOCK),
    },
    _E.GLOBAL_WITHOUT_LOCK: {
        _S.NOT_SUBSCRIBED: Cell(_S.WITHOUT_LOCK),
        _S.WITH_LOCK: Cell(_S.WITH_LOCK),
        _S.WITHOUT_LOCK: Cell(_S.WITHOUT_LOCK),
    },
    _E.ITEM_WITH_LOCK: {
        _S.NOT_SUBSCRIBED: Cell(_S.WITH_LOCK, True),
        _S.WITH_LOCK: Cell(_S.WITH_LOCK, True),
        _S.WITHOUT_LOCK: Cell(_S.WITH_LOCK, True),
    },
    _E.ITEM_WITHOUT_LOCK: {
        _S.NOT_SUBSCRIBED: Cell(_S.WITHOUT_LOCK, True),
        _S.WITH_LOCK: Cell(_S.WITHOUT_LOCK, True),
        _S.WITHOUT_LOCK: Cell(_S.WITHOUT_LOCK, True),
    },
    _E.UNSUBSCRIBE_ITEM: {
        _S.NOT_SUBSCRIBED: Cell(_S.NOT_SUBSCRIBED),
        _S.WITH_LOCK: Cell(_S.NOT_SUBSCRIBED),
        _S.WITHOUT_LOCK: Cell(_S.NOT_SUBSCRIBED),
    },
    _E.UNSUBSCRIBE_GLOBAL: {
        _S.NOT_SUBSCRIBED: Cell(_S.NOT_SUBSCRIBED),
        _S.WITH_LOCK: Cell(_S.NOT_SUBSCRIBED),
        _S.WITHOUT_LOCK: Cell(_S.NOT_SUBSCRIBED),
    },
    _E.SUSPEND_GLOBAL: {
        _S.NOT_SUBSCRIBED: Cell(_S.NOT_SUBSCRIBED),
        _S.WITH_LOCK: Cell(_S.WITH_LOCK),
        _S.WITHOUT_LOCK: Cell(_S.WITHOUT_LOCK),
    },
}
"""Event, then what the AE was to the workitem, to the cell; a new workitem has the first column only."""

GLOBAL_STATES: Mapping[SubscriptionEvent, GlobalState] = {
    _E.GLOBAL_WITH_LOCK: GlobalState.WITH_LOCK,
    _E.GLOBAL_WITHOUT_LOCK: GlobalState.WITHOUT_LOCK,
    _E.UNSUBSCRIBE_GLOBAL: GlobalState.NONE,
    _E.SUSPEND_GLOBAL: GlobalState.NONE,
}
"""What the AE is to the whole worklist after an event; other events leave that as it is."""
