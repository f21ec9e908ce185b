# SPDX-License-Identifier: Apache-2.0
"""A process that receives C-STORE for the gateway: started by it, and ended when it ends.

The composition root of that process: store and intake, and nothing else of the rooms.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from informatics_gateway.completeness_settings import completeness_policies
from informatics_gateway.configuration import database_url
from informatics_gateway.dimse.receiver import WAKE, receive_loans
from informatics_gateway.dimse.storage_scp import StorageProvider
from informatics_gateway.disk_settings import space_limits
from informatics_gateway.logs import configure_logging
from informatics_gateway.settings import Settings
from task_manager.instance_intake import StoringIntake
from task_manager.store.database import Database
from task_manager.store.objects import FileObjectStore
from task_manager.store.room import DiskRoom

_LOG = logging.getLogger(__name__)
_READY = b"r"


def start_receiver(settings: Settings, data: Path) -> Callable[[socket.socket], subprocess.Popen[bytes]]:
    """What starts one such process over a data folder, given its end of the control socket."""
    told = settings.model_dump_json()

    def start(control: socket.socket) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "informatics_gateway.receiving_process", str(control.fileno()), str(data)],
            pass_fds=[control.fileno()],
            stdin=subprocess.PIPE,
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin as given:
            given.write(told.encode())
        return process

    return start


def run(control: socket.socket, data: Path, settings: Settings) -> None:
    """Receive what is lent over `control` until the gateway ends."""
    configure_logging(settings.log)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the gateway drains, and then closes the socket
    database = Database(database_url(settings, data))
    room = DiskRoom(data, space_limits(settings.disk))
    objects = FileObjectStore(data / "store", room=room)

    def wake() -> None:
        with suppress(OSError):
            control.send(WAKE)

    intake = StoringIntake(
        database,
        objects,
        policies=completeness_policies(
            settings.study.quiet_period_s, settings.study.completeness, settings.study.sources
        ),
        clock=lambda: datetime.now(UTC),
        wake=wake,
    )
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    control.send(_READY)
    receive_loans(control, StorageProvider(intake), timeout_s=settings.gateway.dicom.silence_s)
    objects.close()
    database.close()


def main() -> None:
    """Given are the descriptor of the control socket and the data folder; settings come by standard input."""
    control = socket.socket(fileno=int(sys.argv[1]))
    run(control, Path(sys.argv[2]), Settings.model_validate_json(sys.stdin.buffer.read()))
    os._exit(0)  # what is still lent belongs to associations that have ended


if __name__ == "__main__":
    main()
