# SPDX-License-Identifier: Apache-2.0
"""`airway doctor` and `airway retention`: what is wrong on this machine, and what policies remove.

Exit status 0: fit, nothing damaged. 1: unfit, or damage was found. 2: the configuration has a fault.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from informatics_gateway.app import utc_now
from informatics_gateway.commands.console import ERR, OUT, fail, program
from informatics_gateway.configuration import database_url, load_settings
from informatics_gateway.disk import Disk
from informatics_gateway.fitness import Finding, Grade, findings, is_absent
from informatics_gateway.settings import Settings
from profiles.faults import Fault
from task_manager.disk import WANTED_TEXT
from task_manager.errors import ConfigurationError
from task_manager.object_retention import RemovalPlan
from task_manager.store import checksums
from task_manager.store.checksums import Damaged
from task_manager.store.database import Database
from task_manager.store.verifying import Verified, forget_settled, verify

_MOST_NAMED = 50


def doctor(
    data: Path,
    config: Path | None,
    *,
    verify_objects: bool = False,
    since: str = "",
    sample: float = 100.0,
    as_json: bool = False,
) -> None:
    """Check this machine and data folder, and with `verify_objects` every object.

    Parameters
    ----------
    since
        ISO date or time; objects that arrived before are not read.
    sample
        Percentage of objects that are read, chosen at random.
    """
    settings = load_settings(config)
    begin = _moment(since)
    found: list[Finding] = []
    for one in findings(settings, data, config):
        found.append(one)
        if not as_json:
            advice = f"  -> {one.advice}" if one.advice else ""
            OUT.print(f"  {one.grade.value:<5} {one.name}: {one.text}{advice}", markup=False)
    unfit = [one.name for one in found if one.grade is Grade.UNFIT]
    verified: Verified | None = None
    known: list[Damaged] = []
    if verify_objects and not is_absent(database_url(settings, data), data):
        verified, known = _verify(settings, data, begin, sample, quiet=as_json)
    if as_json:
        OUT.print(_as_json(found, verified, known), markup=False, soft_wrap=True)
    elif verified is not None:
        _tell_verified(verified, known)
    damaged = verified is not None and bool(verified.damaged or known)
    if not as_json:
        if unfit:
            fail(f"Mend: {', '.join(unfit)}", status=1)
        if damaged:
            fail(
                "Damaged objects: restore them from a backup, or have the sender send them again.",
                status=1,
            )
        OUT.print(f"Fit. Next: {program()} serve", markup=False)
    elif unfit or damaged:
        sys.exit(1)


def retention(data: Path, config: Path | None, *, dry_run: bool, as_json: bool = False) -> None:
    """Do now what policies ask for, or with `dry_run` only tell it."""
    settings = load_settings(config)
    with _disk(settings, data) as (disk, _):
        if not settings.disk.retention:
            OUT.print("No policy under disk.retention: nothing is removed.", markup=False)
            return
        if not dry_run:
            number, size = disk.retention.run_once()
            if as_json:
                OUT.print(orjson.dumps({"removed": number, "bytes": size}).decode(), markup=False)
                return
            OUT.print(f"Removed {number} objects, {size >> 20} MiB; files go in ten minutes.", markup=False)
            return
        plans = list(disk.retention.plans())
    if as_json:
        OUT.print(orjson.dumps([plan_json(plan) for plan in plans]).decode(), markup=False)
        return
    for plan in plans:
        policies = ", ".join(f"{name}: {len(held)} objects" for name, held in sorted(plan.objects.items()))
        kept = "; ".join(WANTED_TEXT[one] for one in sorted(plan.wanted))
        verdict = f"stays: {kept}" if kept else "would go"
        uid = plan.facts.study_instance_uid
        OUT.print(f"  {uid}  {policies}, {plan.size >> 20} MiB  {verdict}", markup=False)
    gone = [plan for plan in plans if not plan.wanted]
    size = sum(plan.size for plan in gone)
    told = f"{len(gone)} of {len(plans)} studies would go, {size >> 20} MiB. Nothing was done."
    OUT.print(told, markup=False)
    OUT.print(f"Next: {program()} retention, or let the task manager do it", markup=False)


def plan_json(plan: RemovalPlan) -> dict[str, Any]:
    """What would become of a study, as plain JSON values."""
    return {
        "study_instance_uid": plan.facts.study_instance_uid,
        "policies": {name: len(held) for name, held in sorted(plan.objects.items())},
        "bytes": plan.size,
        "kept_by": sorted(one.value for one in plan.wanted),
    }


@contextmanager
def _disk(settings: Settings, data: Path) -> Iterator[tuple[Disk, Database]]:
    database = Database(database_url(settings, data))
    try:
        if len(set(database.revision())) > 1:
            raise ConfigurationError(Fault("database", f"is of another release; first: {program()} migrate"))
        yield Disk(settings, data, database, clock=utc_now), database
    finally:
        database.close()


def _verify(
    settings: Settings, data: Path, since: datetime | None, sample: float, *, quiet: bool
) -> tuple[Verified, list[Damaged]]:
    """What was found, and damage that is known beside it: what is missing or set aside."""
    choose: Callable[[], bool] = (lambda: True) if sample >= 100 else (lambda: random.random() * 100 < sample)
    so_far = Verified()
    columns = (TextColumn("  verified {task.completed} objects"), BarColumn(), TimeElapsedColumn())
    with (
        _disk(settings, data) as (disk, database),
        Progress(*columns, console=ERR, disable=quiet or not ERR.is_terminal) as progress,
    ):
        task = progress.add_task("verify", total=None)
        for so_far in verify(database, disk.objects, since=since, choose=choose, clock=utc_now):
            progress.update(task, completed=so_far.looked_at)
        forget_settled(database, disk.objects)
        with database.read() as connection:
            known = checksums.damage(connection)
    told = {one.path for one in so_far.damaged}
    return so_far, [one for one in known if one.path not in told]


def _tell_verified(verified: Verified, known: list[Damaged]) -> None:
    OUT.print(
        f"  read {verified.good} objects, {verified.read_bytes >> 20} MiB: as they were summed", markup=False
    )
    if verified.unsummed:
        OUT.print(
            f"  {verified.unsummed} objects are not summed yet: there in their size, not compared; "
            "the gateway sums when arrivals pause",
            markup=False,
        )
    if verified.skipped:
        OUT.print(f"  {verified.skipped} objects were not in the sample", markup=False)
    for one in (*verified.damaged, *known)[:_MOST_NAMED]:
        OUT.print(f"  DAMAGED {one.kind.value}: {one.path}", markup=False)
    more = len(verified.damaged) + len(known) - _MOST_NAMED
    if more > 0:
        OUT.print(f"  and {more} more; --json names all", markup=False)


def _as_json(found: list[Finding], verified: Verified | None, known: list[Damaged]) -> str:
    content: dict[str, Any] = {
        "fit": all(one.grade is not Grade.UNFIT for one in found),
        "checks": [
            {"name": one.name, "grade": one.grade.value.lower(), "text": one.text, "advice": one.advice}
            for one in found
        ],
    }
    if verified is not None:
        content["objects"] = {
            "good": verified.good,
            "unsummed": verified.unsummed,
            "skipped": verified.skipped,
            "read_bytes": verified.read_bytes,
            "damaged": [
                {"path": one.path, "kind": one.kind.value, "study_instance_uid": one.study_instance_uid}
                for one in (*verified.damaged, *known)
            ],
        }
    return orjson.dumps(content).decode()


def _moment(since: str) -> datetime | None:
    if not since:
        return None
    try:
        found = datetime.fromisoformat(since)
    except ValueError:
        raise ConfigurationError(Fault("--since", f"{since!r} is no ISO date or time")) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
