# SPDX-License-Identifier: Apache-2.0
"""Doors and a client for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ai_apps.ups_rs.client import UpsRsClient
from tests.loopback.ups_rs.doors import Doors, open_doors


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    with open_doors(tmp_path) as running:
        yield running


@pytest.fixture
def client(doors: Doors) -> Iterator[UpsRsClient]:
    with UpsRsClient(doors.base_url, name="TESTER", timeout_s=10.0) as one:
        yield one
