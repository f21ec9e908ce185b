# SPDX-License-Identifier: Apache-2.0
"""What the measurements of the worklist share: how much is measured, and where workitems are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving import ServedAirway, run_airway

PREFIX = "/dicom-web"
WORKITEMS = f"{PREFIX}/workitems"
SEARCH = f"{WORKITEMS}?ProcedureStepState=SCHEDULED&limit=50"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistSizes:
    """How much is measured.

    Attributes
    ----------
    workitems
        Per round: each is created, retrieved, claimed, updated and completed.
    searches, constants
        Requests of a round.
    few, many
        Workitems of the two worklists that are searched.
    waiting
        Workitems that wait while others are claimed.
    claims
        Claims, and searches one after the other, that latency is the median of.
    watchers, changes
        WebSocket channels, and changes they are told.
    """

    workitems: int = 2000
    searches: int = 500
    constants: int = 5000
    few: int = 1000
    many: int = 100_000
    waiting: int = 10_000
    claims: int = 100
    watchers: int = 200
    changes: int = 50


QUICK = WorklistSizes(
    workitems=60,
    searches=10,
    constants=200,
    few=60,
    many=600,
    waiting=200,
    claims=5,
    watchers=10,
    changes=3,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where workitems are kept, and how to have a fresh one."""

    name: str
    url: str

    def config(self, folder: Path) -> dict[str, Any]:
        """Content of ``airway.yaml``; the address of the database goes into a file of `folder`."""
        content: dict[str, Any] = {"roles": ["gateway", "task_manager"]}
        if self.url:
            file = folder / "database-url"
            file.write_text(self.url, encoding="utf-8")
            file.chmod(0o600)
            content["database"] = {"url_file": str(file)}
        return content


@contextmanager
def serving(store: Store, folder: Path) -> Iterator[ServedAirway]:
    """Airway with doors and task manager only, its workitems in `store`."""
    with run_airway(folder / "airway", store.config(folder)) as airway:
        yield airway
