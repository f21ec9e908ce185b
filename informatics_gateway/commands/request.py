# SPDX-License-Identifier: Apache-2.0
"""`airway request`: ask a running Airway for the analysis of a study, look how far it is, take it back.

Speaks to ``/api/requests`` like everybody else.
"""

from __future__ import annotations

import getpass
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from informatics_gateway.commands.console import OUT, fail
from profiles.uids import is_uid

_DEFAULT_URL = "http://127.0.0.1:8080"
_TIMEOUT_S = 30.0
_KEY = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PRIORITIES = ("HIGH", "MEDIUM", "LOW")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for; see ``airway request --help``."""

    accession_number: str = ""
    study_instance_uid: str = ""
    patient_id: str = ""
    app: str = ""
    priority: str = ""
    reason: str = ""
    key: str = ""


def ask(asked: Asked, *, url: str, data: Path) -> None:
    """Ask for the analysis of a study, and print what happens next."""
    if bool(asked.accession_number) == bool(asked.study_instance_uid):
        fail("Name the study by its accession number, or by --study UID.")
    if asked.study_instance_uid and not is_uid(asked.study_instance_uid):
        fail("That is not a Study Instance UID.")
    priority = asked.priority.upper()
    if priority and priority not in _PRIORITIES:
        fail(f"--priority takes one of {', '.join(_PRIORITIES)}.")
    key = _key(asked.key or str(uuid.uuid4()))
    body = {
        "accession_number": asked.accession_number,
        "study_instance_uid": asked.study_instance_uid,
        "patient_id": asked.patient_id,
        "app": asked.app,
        "reason": asked.reason,
        "requester": _user(),
        "key": key,
        **({"priority": priority} if priority else {}),
    }
    _show(_sent("POST", _base(url, data), "", body))


def show(key: str, *, url: str, data: Path) -> None:
    """Print where a request stands."""
    _show(_sent("GET", _base(url, data), f"/{quote(_key(key))}"))


def cancel(key: str, *, url: str, data: Path) -> None:
    """Take a request back, and print what came of it."""
    _show(_sent("POST", _base(url, data), f"/{quote(_key(key))}/cancel"))


def _key(key: str) -> str:
    if not _KEY.fullmatch(key):
        fail("A key has 1 to 64 letters, digits, points, dashes and underlines.")
    return key


def _user() -> str:
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):  # a container whose user has no name
        return ""


def _base(url: str, data: Path) -> str:
    """The address of the server: as given, else of the Airway running on `data`, else port 8080 here."""
    if url:
        return url.rstrip("/")
    try:
        found = orjson.loads((data / "endpoints.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return _DEFAULT_URL
    address = found.get("http") if isinstance(found, dict) else None
    return address if isinstance(address, str) else _DEFAULT_URL


def _sent(method: str, base: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        answer = httpx.request(method, f"{base}/api/requests{path}", json=body, timeout=_TIMEOUT_S)
        told = orjson.loads(answer.content)
    except (httpx.HTTPError, httpx.InvalidURL):
        fail(
            f"No Airway answers at {base}. Is `airway serve` running? Name it with --url or --data.", status=1
        )
    except orjson.JSONDecodeError:
        fail(f"What answers at {base} is no Airway.", status=1)
    if answer.is_success and isinstance(told, dict):
        return told
    detail = told.get("detail") if isinstance(told, dict) else None
    return fail("The request was refused:", *_faults(detail), status=1)


def _faults(detail: object) -> list[str]:
    """Faults of our own and of the schema, one a line."""
    if not isinstance(detail, list):
        return [str(detail)]
    found = []
    for one in detail:
        if isinstance(one, dict):
            place = one.get("path") or ".".join(str(step) for step in one.get("loc", ())[1:])
            found.append(": ".join(filter(None, (str(place), str(one.get("message") or one.get("msg"))))))
    return found


def _show(told: dict[str, Any]) -> None:
    lines = [f"Request {told['key']}", f"  {told['state']}: {told['next']}"]
    lines += [f"  study      {uid}" for uid in told["studies"]]
    lines += [f"  workitem   {one['uid']} {one['state']} ({one['app']})" for one in told["workitems"]]
    OUT.print("\n".join(lines), markup=False)
