# SPDX-License-Identifier: Apache-2.0
"""``python -m ai_apps.performer``: a performer as a process of its own, logging JSON lines to stderr.

SIGTERM and SIGINT stop it: it finishes within the grace time or leaves its work to be resumed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ai_apps.catalog import catalog
from ai_apps.manifest import ManifestError
from ai_apps.performer.assignment import Identity
from ai_apps.performer.attention import Attention
from ai_apps.performer.child import Standby
from ai_apps.performer.claims import ClaimFolder
from ai_apps.performer.execution import Execution, Limits, Station
from ai_apps.performer.logs import log_to_stderr
from ai_apps.performer.loop import Performer
from ai_apps.performer.patience import Patience
from ai_apps.ups_rs.client import UpsRsClient
from ai_apps.ups_rs.connection import Connection
from profiles.codes import Code

EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a performer until it is told to stop; the exit status."""
    options = _parser().parse_args(arguments)
    log_to_stderr()
    try:
        offered = catalog(options.app_folder)
    except ManifestError as error:
        return _refuse("; ".join(str(fault) for fault in error.faults))
    names = options.app or sorted(offered)
    unknown = [name for name in names if name not in offered]
    if unknown or not names:
        return _refuse(f"no such app: {', '.join(unknown)}" if unknown else "there is no app to serve")
    claims = ClaimFolder(options.work / "claims")
    lock = os.open(options.work / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _refuse("another performer uses this work folder")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if options.until_stdin_ends:
        threading.Thread(target=_stop_at_end_of_stdin, args=(stop,), daemon=True).start()
    identity = Identity(
        station=options.station, station_class=options.station_class, organization=options.organization
    )
    try:
        connection = Connection(
            options.manager, token_file=options.token_file, ca_file=options.ca_file, name=options.station
        )
        client = UpsRsClient(options.manager, connection)
        attention = _attention(options, client, [offered[name].workitem_code for name in names])
    except ValueError as error:
        return _refuse(str(error))
    execution = Execution(
        client,
        connection,
        claims,
        Station(
            identity=identity,
            stow_url=options.stow_url or options.manager.rstrip("/") + "/studies",
            app_folders=tuple(options.app_folder),
            threads=options.threads,
        ),
        stop=stop,
        clock=_now,
        limits=Limits(
            run_s=options.timeout_seconds,
            grace_s=options.grace_seconds,
            heartbeat_s=options.heartbeat_seconds,
        ),
        patience=Patience(),
        standby=Standby(),
        offered=offered,
        attention=attention,
    )
    performer = Performer(
        client,
        claims,
        execution,
        apps={name: offered[name].workitem_code for name in names},
        identity=identity,
        poll_s=options.poll_seconds,
        stop=stop,
        clock=_now,
        attention=attention,
        idle_s=options.idle_seconds,
    )
    try:
        with attention or contextlib.nullcontext():
            performer.run()
    finally:
        execution.close()
    connection.close()
    os.close(lock)
    return 0


def _attention(options: argparse.Namespace, client: UpsRsClient, codes: Sequence[Code]) -> Attention | None:
    if options.style == "pull":
        return None
    return Attention(client, station=options.station, codes=list(dict.fromkeys(codes)))


def _stop_at_end_of_stdin(stop: threading.Event) -> None:
    """Who started us holds the other end of a pipe; it ends with them, even when they are killed."""
    while os.read(0, 4096):
        pass
    stop.set()


def _now() -> datetime:
    return datetime.now(UTC)


def _refuse(reason: str) -> int:
    sys.stderr.write(f"performer: {reason}\n")
    return EXIT_USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ai_apps.performer", description=__doc__.split("\n")[0])
    parser.add_argument("--manager", required=True, help="base address of UPS-RS, http://HOST:PORT/dicom-web")
    parser.add_argument("--work", required=True, type=Path, help="folder for claims and job files")
    parser.add_argument("--station", required=True, help="AE title of this performer")
    parser.add_argument("--app", action="append", help="name of an app to serve; all if not given")
    parser.add_argument("--app-folder", action="append", default=[], type=Path, help="folder of further apps")
    parser.add_argument(
        "--style",
        choices=("pull", "triggered-pull"),
        default="triggered-pull",
        help="whether to listen for events; where there is no event channel, searches go on as in pull",
    )
    parser.add_argument("--station-class", default="", help="class of stations whose work is taken too")
    parser.add_argument("--organization", default="", help="organization whose work is taken too")
    parser.add_argument("--poll-seconds", type=float, default=2.0, help="between searches that find nothing")
    parser.add_argument("--idle-seconds", type=float, default=60.0, help="the same while events are heard")
    parser.add_argument(
        "--heartbeat-seconds", type=float, default=60.0, help="longest silence while a workitem is held"
    )
    parser.add_argument("--timeout-seconds", type=float, default=1800.0, help="limit of one run")
    parser.add_argument("--grace-seconds", type=float, default=10.0, help="to finish a run when stopped")
    parser.add_argument("--stow-url", default="", help="where results go if the workitem names no place")
    parser.add_argument("--token-file", type=Path, help="file with the bearer token for the manager")
    parser.add_argument("--ca-file", type=Path, help="certificates to trust instead of the usual ones")
    parser.add_argument(
        "--until-stdin-ends", action="store_true", help="stop, as if told to, when standard input ends"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="CPU threads of an app; 0: as many as it likes"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
