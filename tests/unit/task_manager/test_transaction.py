# SPDX-License-Identifier: Apache-2.0
"""Transactions over workitems: what names none is refused, and fails nobody else's request."""

from __future__ import annotations

import pytest

from task_manager.outcome import Accepted, RefusalCode, Refused
from task_manager.workitem.commands import Create, RequestCancel
from tests.contract.workitems import minimal
from tests.service import PERFORMER, TestBed


@pytest.mark.parametrize(
    "uid",
    ["1.2\x003", "1.2\ud8003", "1.2 ", "", "9" * 7000],
    ids=["NUL", "surrogate", "space", "empty", "long"],
)
def test_what_is_no_uid_is_refused(bed: TestBed, uid: str) -> None:
    worklist = bed.service.worklist
    asked = [("2.25.1", minimal()), (uid, minimal()), ("2.25.2", minimal())]
    futures = [
        worklist.submit(name, Create(uid=name, attributes=item), actor=PERFORMER) for name, item in asked
    ]
    first, refused, last = (future.result(10) for future in futures)
    assert isinstance(first, Accepted)
    assert isinstance(last, Accepted)
    assert isinstance(refused, Refused)
    assert refused.code is RefusalCode.INVALID_ATTRIBUTES
    unknown = worklist.submit(uid, RequestCancel(details={}, requesting_ae=""), actor=PERFORMER).result(10)
    assert isinstance(unknown, Refused)
    assert unknown.code is RefusalCode.NO_SUCH_INSTANCE
