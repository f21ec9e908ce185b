# SPDX-License-Identifier: Apache-2.0
"""The transition table is complete."""

from __future__ import annotations

from profiles.ups.states import (
    CHANGE_STATE_EVENTS,
    FINAL_STATES,
    TRANSITIONS,
    Effect,
    ProcedureStepState,
    TransitionEvent,
)


def test_every_cell_is_entered() -> None:
    assert set(TRANSITIONS) == set(TransitionEvent)
    assert all(set(row) == {None, *ProcedureStepState} for row in TRANSITIONS.values())


def test_every_effect_stands_in_one_cell() -> None:
    cells = [cell for row in TRANSITIONS.values() for cell in row.values() if isinstance(cell, Effect)]
    assert sorted(cells) == sorted(Effect)


def test_final_states_are_never_left() -> None:
    for state in FINAL_STATES:
        assert not any(isinstance(row[state], Effect) for row in TRANSITIONS.values())


def test_every_state_can_be_asked_for() -> None:
    assert set(CHANGE_STATE_EVENTS) == set(ProcedureStepState)
