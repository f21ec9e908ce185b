# SPDX-License-Identifier: Apache-2.0
"""Who claimed a workitem: nobody is taken for the manager's own worker by calling itself so."""

from __future__ import annotations

import pytest

from task_manager.actor import WORKER, Actor, performer_name


@pytest.mark.parametrize(
    ("actor", "expected"),
    [
        pytest.param(WORKER, "AIRWAY", id="the worker"),
        pytest.param(Actor(door="dicom", name="AIRWAY"), "dicom:AIRWAY", id="a peer of that AE title"),
        pytest.param(Actor(door="dicomweb", name="AIRWAY"), "dicomweb:AIRWAY", id="a product of that name"),
        pytest.param(Actor(door="dicom", name="PERF1"), "PERF1", id="a performer"),
        pytest.param(Actor(door="dicomweb"), "dicomweb", id="nobody known"),
    ],
)
def test_a_claim_is_remembered_by(actor: Actor, expected: str) -> None:
    assert performer_name(actor) == expected
