# SPDX-License-Identifier: Apache-2.0
"""`airway studies`: list open studies; complete, hold, release or discard one.

Lists read the database itself; decisions are asked of the server, which keeps who made them. Options stand
here too; libraries are loaded when a command runs.
"""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from informatics_gateway.commands.console import OUT, fail, program

if TYPE_CHECKING:
    import httpx

    from task_manager.store.database import Database

studies_app = typer.Typer(
    help="List studies that are open; complete, hold, release or discard one.", no_args_is_help=True
)
_DATA = Path("airway-data")
_DEFAULT_URL = "http://127.0.0.1:8080"
_TIMEOUT_S = 30.0
_Data = Annotated[Path, typer.Option("--data", help="Folder for database, objects and work.")]
_Config = Annotated[
    Path | None, typer.Option("--config", help="airway.yaml; rules/ and destinations.yaml beside it.")
]
_Uid = Annotated[str, typer.Argument(help="Study Instance UID.")]
_Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the study.")]
_Url = Annotated[
    str, typer.Option("--url", help="Address of the server; else that of --data or port 8080 here.")
]
_By = Annotated[str, typer.Option("--by", help="Who decides; without it the user of this machine.")]


@studies_app.command("list")
def list_command(
    state: Annotated[
        list[str] | None, typer.Option("--state", help="RECEIVING, HELD, COMPLETE, DISCARDED, KEPT.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Studies shown at most.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: _Data = _DATA,
    config: _Config = None,
) -> None:
    """List studies that are receiving or held; what is looked at next comes first."""
    from informatics_gateway.study_words import awaited_words, listed_json
    from task_manager.study.model import StudyState
    from task_manager.study_decisions import listed_studies

    names = [name.upper() for name in state or ("RECEIVING", "HELD")]
    unknown = [name for name in names if name not in list(StudyState)]
    if unknown:
        fail(f"There is no state {unknown[0]!r}.", f"States are {', '.join(StudyState)}.")
    with _database(data, config) as database:
        listed = listed_studies(database, [StudyState(name) for name in names], limit=limit)
    if as_json:
        sys.stdout.write(json.dumps([listed_json(one) for one in listed]) + "\n")
        return
    if not listed:
        OUT.print("No study is in this state." if state else "No study is open.")
    for one in listed:
        study = one.study
        at = study.deadline_at
        OUT.print(
            f"{study.study_instance_uid}  {study.state.value}"
            + (f", looked at {at:%Y-%m-%d %H:%M:%S}Z" if at else ""),
            markup=False,
        )
        for awaited in one.look.waiting if one.look and at else ():
            OUT.print(f"  waits for {awaited_words(awaited)}", markup=False)


@studies_app.command("show")
def show_command(
    study_instance_uid: _Uid,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data: _Data = _DATA,
    config: _Config = None,
) -> None:
    """Tell what a study waits for or why it is complete, and what persons decided about it."""
    from informatics_gateway.study_words import completeness_json, completeness_lines
    from task_manager.story import study_story

    with _database(data, config) as database:
        story = study_story(database, study_instance_uid)
    if story is None:
        fail("This study was never received.", status=1)
    study = story.study
    if as_json:
        content = {
            "study_instance_uid": study.study_instance_uid,
            "state": study.state.value,
            "revision": study.revision,
            **completeness_json(story.completeness),
        }
        sys.stdout.write(json.dumps(content) + "\n")
        return
    OUT.print(
        f"Study {study.study_instance_uid} {study.state.value}, revision {study.revision}", markup=False
    )
    for line in completeness_lines(study, story.completeness, lambda at: f"{at:%Y-%m-%d %H:%M:%S}Z"):
        OUT.print(line, markup=False)


@studies_app.command("force")
def force_command(
    study_instance_uid: _Uid,
    reason: _Reason = "",
    by: _By = "",
    url: _Url = "",
    data: _Data = _DATA,
) -> None:
    """Let a study be complete now, whatever it waits for."""
    _decide("force", study_instance_uid, reason, by, url, data)


@studies_app.command("hold")
def hold_command(
    study_instance_uid: _Uid,
    reason: _Reason = "",
    by: _By = "",
    url: _Url = "",
    data: _Data = _DATA,
) -> None:
    """Keep a study from being complete until it is released."""
    _decide("hold", study_instance_uid, reason, by, url, data)


@studies_app.command("release")
def release_command(
    study_instance_uid: _Uid,
    reason: _Reason = "",
    by: _By = "",
    url: _Url = "",
    data: _Data = _DATA,
) -> None:
    """Take a study up again that was held or discarded."""
    _decide("release", study_instance_uid, reason, by, url, data)


@studies_app.command("discard")
def discard_command(
    study_instance_uid: _Uid,
    reason: _Reason = "",
    by: _By = "",
    url: _Url = "",
    data: _Data = _DATA,
) -> None:
    """Let nothing run on a study, and withdraw what was asked for; its images stay."""
    _decide("discard", study_instance_uid, reason, by, url, data)


def _decide(name: str, uid: str, reason: str, by: str, url: str, data: Path) -> None:
    import httpx

    from profiles.uids import is_uid

    if not is_uid(uid):
        fail("That is not a Study Instance UID.")
    base = (url or _running(data) or _DEFAULT_URL).rstrip("/")
    try:
        answer = httpx.post(
            f"{base}/api/studies/{uid}/{name}",
            json={"by": by or _user(), "reason": reason},
            timeout=_TIMEOUT_S,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(
            f"{base} does not answer ({type(error).__name__}).",
            f"Is it running? Start it with: {program()} serve",
            "Is it elsewhere? Name its address with --url, or its folder with --data.",
            status=1,
        )
    if answer.status_code != httpx.codes.OK:
        fail(f"That cannot be done: {_why(answer)}", status=1)
    OUT.print(f"{name}: {uid}", markup=False)


def _why(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"it answers {answer.status_code}"


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


@contextmanager
def _database(data: Path, config: Path | None) -> Iterator[Database]:
    """The database of a data folder; told plainly where there is none."""
    from informatics_gateway.configuration import database_url, load_settings
    from task_manager.store.database import Database

    url = database_url(load_settings(config), data)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        fail(f"There is no database in {data}. Name the folder that `airway serve` uses with --data.")
    database = Database(url)
    try:
        yield database
    finally:
        database.close()
