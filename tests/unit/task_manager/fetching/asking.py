# SPDX-License-Identifier: Apache-2.0
"""How tests ask for fetches and look at what came of them."""

from __future__ import annotations

from datetime import timedelta

from task_manager.errors import RetryableDeliveryError
from task_manager.fetching.model import FetchStatus
from task_manager.fetching.performing import FetchLimits
from task_manager.outcome import Accepted
from task_manager.store import studies
from task_manager.study.model import Study
from tests.instances import STUDY, ct
from tests.service import TestBed

FILES = [ct(number) for number in range(1, 5)]
ANOTHER = "1.2.826.0.1.3680043.8.498.8"
LIMITS = FetchLimits(most_tries=2, give_up=timedelta(hours=1), most_studies=3, most_instances=50)
DOWN = RetryableDeliveryError("no answer")


def ask(bed: TestBed, **target: str) -> str:
    asked = bed.service.fetches.request(**target)  # type: ignore[arg-type]
    assert isinstance(asked, Accepted)
    return asked.uid


def status(bed: TestBed, key: str) -> FetchStatus:
    found = bed.service.fetches.status(key)
    assert found is not None
    return found


def study(bed: TestBed, uid: str = STUDY) -> Study | None:
    with bed.database.read() as connection:
        return studies.whole_study(connection, uid)
