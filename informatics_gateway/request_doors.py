# SPDX-License-Identifier: Apache-2.0
"""The HTTP doors that requests for analysis come through: FHIR and `/api/requests`. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from importlib.metadata import version

from fastapi import APIRouter

from informatics_gateway import request_api
from informatics_gateway.fhir import server
from informatics_gateway.request_settings import FhirDoorSettings, RequestingWorkitem
from profiles.fhir.reading import RequestReading
from task_manager.requesting import RequestingKind
from task_manager.service import Service


def request_routers(
    service: Service, settings: FhirDoorSettings, *, public_url: str, clock: Callable[[], datetime]
) -> tuple[APIRouter, ...]:
    """Routes of ``/fhir`` and ``/api/requests``; `public_url` is that of the HTTP door, or empty."""
    door = server.FhirDoor(
        requests=service.requests,
        reading=reading_of(settings),
        public_url=f"{public_url.rstrip('/')}/fhir" if public_url else "",
        version=version("airway"),
        started=clock(),
    )
    return request_api.router(service), server.router(door)


def reading_of(settings: FhirDoorSettings) -> RequestReading:
    """How resources are read."""
    return RequestReading(
        issuers=settings.issuers,
        code_systems=settings.code_systems,
        accession_systems=settings.accession_systems,
        placer_systems=settings.placer_systems,
        filler_systems=settings.filler_systems,
    )


def requesting_kinds(settings: tuple[RequestingWorkitem, ...]) -> tuple[RequestingKind, ...]:
    """Which workitems of others ask for what the rules give."""
    return tuple(
        RequestingKind(code=one.code, scheme=one.scheme, worklist_label=one.worklist_label, app=one.app)
        for one in settings
    )
