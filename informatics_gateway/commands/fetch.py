# SPDX-License-Identifier: Apache-2.0
"""`airway fetch`: have a study, or all of an accession number, fetched from the archives.

Asked of the running server. Options stand here too; libraries are loaded when the command runs.
"""

from __future__ import annotations

import getpass
import json
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from informatics_gateway.commands.console import OUT, fail, program

_DATA = Path("airway-data")
_DEFAULT_URL = "http://127.0.0.1:8080"
_TIMEOUT_S = 30.0
_POLL_S = 0.5
_OPEN = ("WAITING", "RUNNING")
_DONE = "DONE"


def fetch_command(
    wanted: Annotated[str, typer.Argument(metavar="ACCESSION|UID", help="What to fetch.")],
    archive: Annotated[str, typer.Option("--from", help="Archive to fetch from; else all in turn.")] = "",
    patient: Annotated[str, typer.Option(help="Patient ID, where several have the accession number.")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; 1 if it is not all here.")] = False,
    url: Annotated[
        str, typer.Option("--url", help="Address of the server; else that of --data or port 8080 here.")
    ] = "",
    data: Annotated[Path, typer.Option("--data", help="Folder for database, objects and work.")] = _DATA,
) -> None:
    """Fetch a study from the configured archives, by accession number or Study Instance UID."""
    from profiles.uids import is_uid

    base = (url or _running(data) or _DEFAULT_URL).rstrip("/")
    what = "study_instance_uid" if is_uid(wanted) else "accession_number"
    body = {what: wanted, "archive": archive, "asked_by": _user()}
    if patient:
        body["patient_id"] = patient
    status = _ask(base, "POST", "/api/fetches", body)
    OUT.print(_line(status), markup=False)
    if not wait:
        return
    address = f"/api/fetches/{quote(str(status['key']), safe=':@/')}"
    told = _line(status)
    while status["state"] in _OPEN:
        time.sleep(_POLL_S)
        status = _ask(base, "GET", address)
        if _line(status) != told:
            told = _line(status)
            OUT.print(told, markup=False)
    if status["state"] != _DONE:
        raise typer.Exit(1)


def _line(status: dict[str, Any]) -> str:
    """Where a fetch stands in one line."""
    expected = f" of {status['expected']}" if status["expected"] else ""
    where = f" from {status['source']}" if status["source"] else ""
    why = f" ({status['why']})" if status["why"] else ""
    refused = f", {status['refused']} refused" if status["refused"] else ""
    several = f", {len(status['studies'])} studies" if status["studies"] else ""
    here = f"{status['here']}{expected} instances here{several}{refused}{why}"
    return f"{status['key']}: {status['state']}{where}, {here}"


def _ask(base: str, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, Any]:
    import httpx

    try:
        answer = httpx.request(method, f"{base}{path}", json=body, timeout=_TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(
            f"{base} does not answer ({type(error).__name__}).",
            f"Is it running? Start it with: {program()} serve",
            "Is it elsewhere? Name its address with --url, or its folder with --data.",
            status=1,
        )
    try:
        content = answer.json()
    except ValueError:
        content = {}
    if not answer.is_success or not isinstance(content, dict) or "state" not in content:
        why = content.get("detail") if isinstance(content, dict) else None
        fail(f"That cannot be fetched: {why or f'it answers {answer.status_code}'}", status=1)
    return content


def _running(data: Path) -> str:
    """The address of the Airway that runs on `data`; empty if none does."""
    try:
        return str(json.loads((data / "endpoints.json").read_bytes())["http"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
