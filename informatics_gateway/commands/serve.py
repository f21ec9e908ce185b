# SPDX-License-Identifier: Apache-2.0
"""`airway serve`: open the doors, wait for a signal, drain, exit 0."""

from __future__ import annotations

import gc
import signal
import threading
from pathlib import Path

from informatics_gateway.app import Application
from informatics_gateway.commands.console import endpoint
from informatics_gateway.configuration import is_guarded, load_settings, unsafe_address
from informatics_gateway.logs import configure_logging
from informatics_gateway.settings import Settings
from profiles.faults import Fault
from task_manager.errors import ConfigurationError


def serve(data: Path, config: Path | None, *, http: str, dicom: str, hl7: str) -> None:
    """Run until SIGTERM or SIGINT.

    Raises
    ------
    ConfigurationError
        If the configuration is not safe or not complete; nothing was opened.
    """
    settings = with_endpoints(load_settings(config), http=http, dicom=dicom, hl7=hl7)
    configure_logging(settings.log)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    application = Application(settings, data, config)
    application.start()
    # What was made by now stays: later collections, which stop every door, need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        stop.wait()
    finally:
        application.stop()


def with_endpoints(settings: Settings, *, http: str = "", dicom: str = "", hl7: str = "") -> Settings:
    """The settings with the doors' addresses of the command line.

    Raises
    ------
    ConfigurationError
        If an address is no HOST:PORT or not safe.
    """
    faults: list[Fault] = []
    gateway = settings.gateway
    doors = {}
    for option, text, door in (("--http", http, "http"), ("--dicom", dicom, "dicom"), ("--hl7", hl7, "hl7")):
        configured = getattr(gateway, door)
        try:
            host, port = endpoint(text, configured.host, configured.port)
        except ValueError as error:
            faults.append(Fault(option, str(error)))
            continue
        if door == "http" or not is_guarded(configured.tls):
            faults.extend(unsafe_address(option, host))
        doors[door] = configured.model_copy(update={"host": host, "port": port})
    if faults:
        raise ConfigurationError(*faults)
    return settings.model_copy(update={"gateway": gateway.model_copy(update=doors)})
