# SPDX-License-Identifier: Apache-2.0
"""`airway workitems`: list, show, create, cancel and watch the workitems of any UPS-RS server.

Speaks UPS-RS like everybody else, to our own server too. Only `show` prints what tells of a patient.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ai_apps.ups_rs.client import UpsRsClient, cancel_details
from ai_apps.ups_rs.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    NoEventChannelError,
    NotFoundError,
    RefusedError,
    UnreachableError,
    UpsError,
)
from ai_apps.ups_rs.events import Resync, Resynchronized, UpsEvent
from informatics_gateway.commands.console import OUT, fail, program
from profiles.codes import Code
from profiles.dicom_json import DicomJson, items, text
from profiles.uids import is_uid
from profiles.ups.context import code_of
from profiles.ups.report import EventType
from profiles.ups.states import FINAL_STATES, GLOBAL_SUBSCRIPTION_UID

_DEFAULT_URL = "http://127.0.0.1:8080/dicom-web"
_FILE_LIMIT_BYTES = 8 << 20
_WIDE = 240
_RETURNED = (
    "ProcedureStepState",
    "InputReadinessState",
    "ScheduledProcedureStepPriority",
    "ProcedureStepLabel",
    "ScheduledWorkitemCodeSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledProcedureStepStartDateTime",
    "ProcedureStepProgressInformationSequence",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Which server is asked, and how.

    Attributes
    ----------
    url
        DICOMweb base; empty takes that of the Airway running on `data`, else port 8080 of this machine.
    """

    url: str = ""
    data: Path
    token_file: Path | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What `list` searches for; empty ones match everything. `match` holds further ``KEY=VALUE``."""

    state: str = ""
    code: str = ""
    station: str = ""
    patient_id: str = ""
    accession: str = ""
    match: tuple[str, ...] = ()

    def keys(self) -> dict[str, str]:
        """The matching keys of the search.

        Raises
        ------
        ValueError
            If one of `match` is no ``KEY=VALUE``, or a key comes twice.
        """
        found = {
            "ProcedureStepState": self.state.upper().replace("_", " "),
            "ScheduledWorkitemCodeSequence.CodeValue": self.code,
            "ScheduledStationNameCodeSequence.CodeValue": self.station,
            "PatientID": self.patient_id,
            "ReferencedRequestSequence.AccessionNumber": self.accession,
        }
        keys = {key: value for key, value in found.items() if value}
        for given in self.match:
            key, separator, value = given.partition("=")
            if not key or not separator:
                raise ValueError(f"--match takes KEY=VALUE, such as WorklistLabel=AI*, not {given!r}")
            if key in keys:
                raise ValueError(f"{key} is given twice")
            keys[key] = value
        return keys


def list_workitems(server: Server, filters: Filters, *, limit: int, as_json: bool) -> None:
    """Print the workitems that match, one a line, or as DICOM JSON."""
    try:
        keys = filters.keys()
    except ValueError as error:
        fail(str(error))
    with _client(server) as client:
        include = ("all",) if as_json else _RETURNED
        found = list(islice(client.search_all(keys, include=include, page=min(limit + 1, 500)), limit + 1))
    shown = found[:limit]
    if as_json:
        sys.stdout.write(json.dumps(shown, ensure_ascii=False) + "\n")
        return
    if not shown:
        OUT.print("No workitem matches." if keys else "The worklist is empty.")
        return
    table = Table(box=None)
    # A UID is there to be copied, whatever the width.
    longest = max(len(text(workitem, "SOPInstanceUID")) for workitem in shown)
    table.add_column("UID", no_wrap=True, min_width=longest)
    for heading in ("State", "Inputs", "Priority", "Task", "Label", "Station", "Progress"):
        table.add_column(heading)
    for workitem in shown:
        table.add_row(*(escape(cell) for cell in _row(workitem)))
    (OUT if OUT.is_terminal else Console(highlight=False, width=_WIDE)).print(table)
    if len(found) > limit:
        OUT.print(f"There are more; ask for them with --limit {limit * 10}.")


def show_workitem(server: Server, uid: str, *, as_json: bool) -> None:
    """Print all attributes of a workitem, those of the patient too."""
    _check_uid(uid)
    with _client(server) as client:
        workitem = client.retrieve(uid)
    if as_json:
        sys.stdout.write(json.dumps(workitem, ensure_ascii=False) + "\n")
        return
    from pydicom.dataset import Dataset

    try:
        readable = str(Dataset.from_json(workitem))
    except Exception:  # noqa: BLE001 - pydicom raises anything for values of foreign servers
        readable = json.dumps(workitem, ensure_ascii=False, indent=1)
    OUT.print(readable, markup=False)


def create_workitem(server: Server, path: Path, *, uid: str) -> None:
    """Create a workitem from DICOM JSON in a file, and say what to do next."""
    if uid:
        _check_uid(uid)
    attributes = _read(path)
    with _client(server) as client:
        created = client.create(attributes, uid=uid)
    OUT.print(created.uid, markup=False)
    _warn(created.warnings)
    where = f" --url {server.url}" if server.url else ""
    OUT.print(f"Next: {program()} workitems watch {created.uid}{where}", markup=False)


def cancel_workitem(server: Server, uid: str, *, reason: str, code: str) -> None:
    """Ask for cancellation of a workitem."""
    _check_uid(uid)
    try:
        details = cancel_details(reason=reason, code=_code(code) if code else None)
    except ValueError as error:
        fail(str(error))
    with _client(server) as client:
        warnings = client.request_cancel(uid, details)
        state = text(client.retrieve(uid), "ProcedureStepState")
    _warn(warnings)
    if state == "CANCELED":
        OUT.print(f"{uid} is canceled.", markup=False)
    else:
        OUT.print(
            f"{uid} is {state or 'held'}: its performer was asked to cancel and decides itself.", markup=False
        )


def watch_workitems(
    server: Server, uid: str, *, everything: bool, receiving_ae: str, seconds: float | None
) -> None:
    """Print events as they come until `seconds` have passed or Ctrl-C.

    With one workitem it ends when that is final.
    """
    if bool(uid) == everything:
        fail("Name a workitem, or say --all.")
    if uid:
        _check_uid(uid)
    stop = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: stop.set())
    resync = Resync(workitems=(uid,)) if uid else Resync(matching={}, include=_RETURNED)
    try:
        with (
            _client(server) as client,
            client.events(
                receiving_ae, targets=(uid or GLOBAL_SUBSCRIPTION_UID,), resync=resync, stop=stop
            ) as stream,
        ):
            stream.open()
            ends = None if seconds is None else time.monotonic() + seconds
            OUT.print(f"Watching as {receiving_ae}; Ctrl-C ends.", markup=False)
            known = bool(uid)
            while not stop.is_set():
                left = None if ends is None else ends - time.monotonic()
                if left is not None and left <= 0:
                    break
                told = stream.receive(left)
                if told is not None and _told(told, with_final=known) and uid:
                    break
                known = True
            # Do not leave events to be kept for nobody.
            with contextlib.suppress(UpsError):
                client.unsubscribe(receiving_ae, uid or GLOBAL_SUBSCRIPTION_UID)
    finally:
        signal.signal(signal.SIGINT, previous)


def default_receiving_ae() -> str:
    """The AE title of a person who watches: one per process, so that no two share a channel."""
    return f"WATCH{os.getpid()}"[:16]


@contextlib.contextmanager
def _client(server: Server) -> Iterator[UpsRsClient]:
    """A client of the server; what goes wrong in the block is told plainly, and ends the program."""
    url = server.url or _running(server.data) or _DEFAULT_URL
    try:
        client = UpsRsClient(url, token_file=server.token_file, ca_file=server.ca_file, name="airway")
    except ValueError as error:
        fail(f"{error}: {server.ca_file if 'CA' in str(error) else url}")
    with client:
        try:
            yield client
        except UnreachableError as error:
            _fail_unreachable(url, error)
        except RefusedError as error:
            _fail_refused(url, error)


def _running(data: Path) -> str:
    """The DICOMweb base of the Airway that runs on `data`; empty if none does."""
    try:
        announced = json.loads((data / "endpoints.json").read_bytes())
        url = str(announced["http"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""
    return f"{url.rstrip('/')}/dicom-web"


def _fail_unreachable(url: str, error: UnreachableError) -> NoReturn:
    if error.status == 401:
        fail(f"{url} wants a token.", "Name a file that holds a valid one: --token-file FILE", status=1)
    if 300 <= error.status < 400:
        fail(f"{url} leads elsewhere.", "Name the address it leads to with --url.", status=1)
    fail(
        f"{url} does not answer as a UPS-RS server ({error}).",
        f"Is it running? Start ours with: {program()} serve",
        "Is it elsewhere? Name its DICOMweb base with --url, or the folder of ours with --data.",
        status=1,
    )


def _fail_refused(url: str, error: RefusedError) -> NoReturn:
    lines = [*error.warnings, *(str(fault) for fault in error.faults)]
    if isinstance(error, NoEventChannelError):
        fail(f"{url} has no event channel.", "Look again and again instead: workitems list", status=1)
    if isinstance(error, GoneError):
        fail("This workitem was deleted: its time after the end was over.", *lines, status=1)
    if isinstance(error, NotFoundError):
        fail(f"There is no such workitem at {url}.", *lines, "See them with: workitems list", status=1)
    if isinstance(error, ForbiddenError):
        fail("The server does not allow that.", *lines, "Is the token for it? --token-file FILE", status=1)
    if isinstance(error, ConflictError):
        fail("Not possible as the workitem stands.", *lines, "See it with: workitems show UID", status=1)
    fail(f"The server refused (HTTP {error.status}).", *lines, status=1)


def _check_uid(uid: str) -> None:
    if not is_uid(uid):
        fail(f"{uid!r} is not a UID.", "See those of the workitems with: workitems list")


def _read(path: Path) -> DicomJson:
    try:
        if path.stat().st_size > _FILE_LIMIT_BYTES:
            fail(f"{path} is larger than {_FILE_LIMIT_BYTES >> 20} MiB.")
        content = json.loads(path.read_bytes())
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    except (ValueError, RecursionError):
        fail(f"{path} is not JSON.", "It must hold one data set in DICOM JSON (PS3.18 F.2).")
    found = content if isinstance(content, list) else [content]
    if len(found) != 1 or not isinstance(found[0], dict):
        fail(f"{path} does not hold one data set.", "An object, or an array of one, is what is needed.")
    return dict(found[0])


def _code(given: str) -> Code:
    parts = given.split("^")
    if len(parts) != 3 or not all(parts) or max(len(parts[0]), len(parts[1])) > 16 or len(parts[2]) > 64:
        raise ValueError(
            f"--code takes VALUE^SCHEME^MEANING, such as '110514^DCM^Incorrect worklist entry', not {given!r}"
        )
    return Code(*parts)


def _row(workitem: DicomJson) -> Sequence[str]:
    progress = items(workitem, "ProcedureStepProgressInformationSequence")
    code = code_of(workitem, "ScheduledWorkitemCodeSequence")
    station = code_of(workitem, "ScheduledStationNameCodeSequence")
    percent = text(progress[0], "ProcedureStepProgress") if progress else ""
    return [
        _plain(one)
        for one in (
            text(workitem, "SOPInstanceUID"),
            text(workitem, "ProcedureStepState"),
            text(workitem, "InputReadinessState"),
            text(workitem, "ScheduledProcedureStepPriority"),
            code.meaning or code.value if code else "",
            text(workitem, "ProcedureStepLabel"),
            station.value if station else "",
            f"{percent} %" if percent else "",
        )
    ]


def _told(told: UpsEvent | Resynchronized, *, with_final: bool) -> bool:
    """Print what was told; whether it says that a workitem is final.

    How things stand is told of all, or of those that are not final.
    """
    if isinstance(told, Resynchronized):
        for workitem in told.workitems:
            state = text(workitem, "ProcedureStepState")
            if with_final or state not in FINAL_STATES:
                _print(text(workitem, "SOPInstanceUID"), f"is {state or 'there'}")
        for uid in told.missing:
            _print(uid, "is no longer there")
        if not told.complete:
            OUT.print("There are more than are shown here; narrow with workitems list.")
        states = {text(workitem, "ProcedureStepState") for workitem in told.workitems}
        return bool(told.missing) or bool(states & FINAL_STATES)
    match told.type:
        case EventType.STATE_REPORT:
            ready = f", inputs {told.input_readiness}" if told.state == "SCHEDULED" else ""
            code = f" ({told.reason_code.meaning})" if told.reason_code else ""
            _print(told.workitem_uid, f"{told.state}{ready}{code}")
        case EventType.CANCEL_REQUESTED:
            _print(told.workitem_uid, f"cancellation requested by {told.requesting_ae or 'somebody'}")
        case EventType.PROGRESS_REPORT:
            percent, what = told.progress
            _print(told.workitem_uid, f"{percent or '?'} % {what}")
        case EventType.SCP_STATUS_CHANGE:
            OUT.print(f"{_clock()}  the server is {told.server_status}", markup=False)
        case EventType.ASSIGNED:
            _print(told.workitem_uid, f"assigned to {', '.join(told.stations) or 'a person'}")
    return told.state in FINAL_STATES


def _print(uid: str, what: str) -> None:
    OUT.print(f"{_clock()}  {uid}  {_plain(what)}", markup=False)


def _plain(told: str) -> str:
    """Text of others without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in told)[:200]


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        OUT.print(f"Warning: {_plain(warning)}", markup=False)
