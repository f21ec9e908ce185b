# SPDX-License-Identifier: Apache-2.0
"""The settings of the disk: how full it may get, and what is removed when."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from informatics_gateway.setting_types import Name
from task_manager.disk import ObjectKind, ObjectPolicy
from task_manager.space import SpaceLimits

_MIB = 1024**2


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RemovalPolicy(_Part):
    """Removes objects that nobody needs any more; without policies nothing is removed."""

    name: Name
    """What it is called in logs and explanations."""
    objects: ObjectKind = ObjectKind.IMAGES
    """`images`, `results` (segmentations, reports, presentation states, ...) or `all`."""
    older_than_d: Annotated[float, Field(gt=0, le=36_500)]
    """Days since the last image came, and since the last delivery where there was one."""
    delivered: bool = True
    """Whether a result of the study must have been delivered."""
    rules: tuple[Name, ...] = ()
    """Only studies that one of these rules ran for; empty means any."""


class DiskSettings(_Part):
    """How full the disk may get, and what is removed."""

    most_gib: Annotated[float, Field(ge=0, le=10_000_000)] = 0.0
    """What the data folder may hold, GiB; 0 sets no bound."""
    least_free_mib: Annotated[float, Field(ge=0, le=1_000_000_000)] = 1024.0
    """What must stay free of its file system, MiB."""
    least_free_percent: Annotated[float, Field(ge=0, lt=100)] = 0.0
    """The same as a share of the file system; the larger of the two counts."""
    reserve_mib: Annotated[float, Field(ge=0, le=1_000_000_000)] = 256.0
    """Kept above that, MiB: where less is left, new images are refused; messages and results are not."""
    reject_associations: bool = False
    """Whether associations that would store are rejected while images are refused."""
    checksums: bool = True
    """Whether what arrived is summed (SHA-256) when arrivals pause; `airway doctor --verify` compares."""
    orphans: Literal["quarantine", "remove"] = "quarantine"
    """What becomes of files without a record that a crash left."""
    retention: tuple[RemovalPolicy, ...] = ()
    """What is removed; of an object, the first policy that is about it counts."""


def space_limits(settings: DiskSettings) -> SpaceLimits:
    """What must stay free."""
    return SpaceLimits(
        most_bytes=int(settings.most_gib * 1024 * _MIB),
        least_free_bytes=int(settings.least_free_mib * _MIB),
        least_free_share=settings.least_free_percent / 100,
        reserve_bytes=int(settings.reserve_mib * _MIB),
    )


def object_policies(settings: DiskSettings) -> tuple[ObjectPolicy, ...]:
    """What is removed when."""
    return tuple(
        ObjectPolicy(
            name=one.name,
            objects=one.objects,
            after=timedelta(days=one.older_than_d),
            delivered=one.delivered,
            rules=frozenset(one.rules),
        )
        for one in settings.retention
    )
