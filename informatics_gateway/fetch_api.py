# SPDX-License-Identifier: Apache-2.0
"""Studies fetched from archives over `/api`: asked for, looked at, let go on. Translates only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, StringConstraints

from task_manager.fetching.model import FetchState, FetchStatus
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.service import Service

_Text = Annotated[str, StringConstraints(max_length=64)]


class WantedStudy(BaseModel):
    """What is to be fetched: a study by its UID, or all of an accession number."""

    model_config = ConfigDict(extra="forbid")

    study_instance_uid: _Text = ""
    """Study Instance UID."""
    accession_number: _Text = ""
    """Accession number."""
    patient_id: _Text = ""
    """Patient of the accession number, where several have it."""
    archive: _Text = ""
    """Archive to fetch from; empty asks all in their order."""
    asked_by: _Text = ""
    """Who asks."""


def router(service: Service) -> APIRouter:
    """Routes of ``/api/fetches``."""
    routes = APIRouter(prefix="/api/fetches", tags=["fetches"])
    fetching = service.fetches

    @routes.post("", status_code=202)
    def ask(wanted: WantedStudy, request: Request) -> dict[str, Any]:
        """Have a study fetched; asking again for what is being fetched changes nothing."""
        by = wanted.asked_by or (request.client.host if request.client else "")
        outcome = fetching.request(
            study_instance_uid=wanted.study_instance_uid,
            accession_number=wanted.accession_number,
            patient_id=wanted.patient_id,
            archive=wanted.archive,
            asked_by=by,
        )
        key = _done(outcome)
        known = isinstance(outcome, Accepted) and WarningCode.DUPLICATE in outcome.warnings
        return {**_found(key), "asked_before": known}

    @routes.get("")
    def listed(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    ) -> dict[str, Any]:
        """Fetches, those asked for last first, and the archives that there are."""
        found = fetching.newest(limit=limit, offset=offset)
        return {"archives": list(fetching.archives), "fetches": [fetch_json(one) for one in found]}

    @routes.post("/{key:path}/retry")
    def retry(key: str) -> dict[str, Any]:
        """Try a fetch again that is held for a person, or has ended."""
        return _found(_done(fetching.retry(key)))

    @routes.post("/{key:path}/accept")
    def accept(key: str) -> dict[str, Any]:
        """Take what came of a held fetch as all there is."""
        return _found(_done(fetching.accept(key)))

    @routes.get("/{key:path}")
    def one(key: str) -> dict[str, Any]:
        """Where a fetch stands."""
        return _found(key)

    def _found(key: str) -> dict[str, Any]:
        status = fetching.status(key)
        if status is None:
            raise HTTPException(404, "no such fetch")
        return fetch_json(status)

    return routes


def fetch_json(status: FetchStatus) -> dict[str, Any]:
    """Where a fetch stands as plain JSON values; times in ISO 8601."""
    fetch = status.fetch
    address = f"/api/fetches/{quote(fetch.key, safe=':@/')}"
    held = fetch.state is FetchState.HELD
    return {
        "key": fetch.key,
        "study_instance_uid": fetch.target.study_instance_uid,
        "accession_number": fetch.target.accession_number,
        "archive": fetch.target.archive,
        "source": fetch.source,
        "purpose": fetch.purpose.value,
        "state": fetch.state.value,
        "expected": fetch.expected,
        "here": status.held,
        "refused": fetch.refused,
        "why": fetch.error,
        "asked_by": fetch.asked_by,
        "asked_at": _iso(fetch.asked_at),
        "changed_at": _iso(fetch.changed_at),
        "ended_at": _iso(fetch.ended_at),
        "studies": [fetch_json(one) for one in status.studies],
        **({"retry": f"{address}/retry", "accept": f"{address}/accept"} if held else {}),
    }


def _done(outcome: Accepted | Refused) -> str:
    """Key of the fetch."""
    if isinstance(outcome, Accepted):
        return outcome.uid
    status = 404 if outcome.code is RefusalCode.NO_SUCH_INSTANCE else 422
    raise HTTPException(status, "; ".join(f"{fault.path} {fault.message}" for fault in outcome.faults))


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds") if at else None
