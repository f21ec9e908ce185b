# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds every room from the settings, opens the doors, and closes them in order.

The only place that knows all rooms. It decides nothing about studies or workitems.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import orjson
from fastapi import FastAPI

from ai_apps.catalog import catalog
from informatics_gateway import api
from informatics_gateway.configuration import configured_rules, database_url
from informatics_gateway.destinations import make_deliverers, make_sinks
from informatics_gateway.dicomweb import qido_rs, stow_rs, ups_rs, wado_rs
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.hl7.server import Hl7Server
from informatics_gateway.http_server import HttpServer, answer_store_failures
from informatics_gateway.local_performer import LocalPerformer
from informatics_gateway.settings import Role, Settings
from profiles.faults import Fault
from profiles.hl7.order import OrderOptions
from task_manager.errors import ConfigurationError
from task_manager.scheduling import AppOffer
from task_manager.service import Service, ServiceSettings
from task_manager.store.database import Database
from task_manager.store.objects import FileObjectStore
from task_manager.worker import Worker

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")


def utc_now() -> datetime:
    """The one clock of the product."""
    return datetime.now(UTC)


class Application:
    """One `airway serve` process.

    Parameters
    ----------
    data
        Folder of this process: database (unless configured elsewhere), objects, performer work, endpoints.
    config
        The configuration file the settings came from; rules may lie beside it.
    """

    def __init__(self, settings: Settings, data: Path, config: Path | None) -> None:
        self._settings = settings
        self._data = data
        self._config = config
        self._announced = data / "endpoints.json"
        self._closing = ExitStack()
        self._ready = False
        self._worker: Worker | None = None
        self._http: HttpServer | None = None
        self._roles = frozenset(settings.roles)

    def start(self) -> Mapping[str, object]:
        """Open everything the roles ask for; the content of ``endpoints.json``.

        Raises
        ------
        ConfigurationError
            If settings and rules do not fit, the data folder is in use, or an address is taken.
        """
        try:
            return self._open()
        except BaseException:
            self._closing.close()
            raise

    def stop(self) -> None:
        """Close in reverse order: announce nothing, take nothing new, finish what runs."""
        self._ready = False
        self._closing.close()

    def _open(self) -> Mapping[str, object]:
        self._data.mkdir(parents=True, exist_ok=True)
        self._lock_data()
        if Role.GATEWAY in self._roles:
            self._announced.unlink(missing_ok=True)  # of a process that was killed: nobody answers there
        endpoints: dict[str, object] = {"pid": os.getpid()}
        if self._roles != {Role.PERFORMER}:
            service = self._make_service()
            if Role.GATEWAY in self._roles:
                endpoints.update(self._open_doors(service))
            if Role.TASK_MANAGER in self._roles:
                self._start_worker(service)
        if Role.PERFORMER in self._roles:
            self._start_performer()
        self._ready = True
        if Role.GATEWAY in self._roles:
            self._announce(endpoints)
        return endpoints

    def _lock_data(self) -> None:
        """One process per role and data folder; the locks go with the process, however it ends."""
        for role in sorted(self._roles):
            lock = self._closing.enter_context((self._data / f"{role.value}.lock").open("w"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                message = f"another process is its {role.value}; stop that or choose another --data"
                raise ConfigurationError(Fault(str(self._data), message)) from None

    def _make_service(self) -> Service:
        settings = self._settings
        apps = {
            name: AppOffer(
                name=manifest.name,
                version=manifest.version,
                label=manifest.title,
                code=manifest.workitem_code,
                parameters=manifest.parameter_values({}),
            )
            for name, manifest in catalog().items()
        }
        rules = configured_rules(settings, self._config, list(apps))
        database = Database(database_url(settings, self._data))
        self._closing.callback(database.close)
        database.migrate()
        objects = FileObjectStore(self._data / "store")
        service = Service(
            database,
            objects,
            rules,
            apps,
            ServiceSettings(
                quiet_period=timedelta(seconds=settings.study.quiet_period_s),
                destinations=tuple(destination.name for destination in settings.destinations),
                event_sinks=tuple(sink.name for sink in settings.events),
            ),
            base_url=self._dicomweb_base,
            clock=utc_now,
            wake=self._wake,
        )
        if Role.GATEWAY in self._roles:
            objects.sweep_incoming(service.is_recorded)
        return service

    def _open_doors(self, service: Service) -> Mapping[str, object]:
        gateway = self._settings.gateway
        web = FastAPI(title="Airway", docs_url="/api/docs", openapi_url="/api/openapi.json", redoc_url=None)
        answer_store_failures(web)
        for routes in (
            ups_rs.router(service.worklist),
            stow_rs.router(service.intake),
            wado_rs.router(service.archive),
            qido_rs.router(service.archive),
            api.router(service, lambda: self._ready),
        ):
            web.include_router(routes)
        self._http = _bound("gateway.http", lambda: HttpServer(web, gateway.http.host, gateway.http.port))
        http = self._http
        http.start()
        self._closing.callback(http.stop)
        dimse = DimseServer(
            service.intake, ae_title=gateway.dicom.ae_title, host=gateway.dicom.host, port=gateway.dicom.port
        )
        _bound("gateway.dicom", dimse.start)
        self._closing.callback(dimse.stop)
        hl7 = Hl7Server(service.intake, gateway.hl7.host, gateway.hl7.port, self._order_options())
        _bound("gateway.hl7", hl7.start)
        self._closing.callback(hl7.stop)
        return {
            "http": http.url,
            "dicom": {"host": gateway.dicom.host, "port": dimse.port, "ae_title": gateway.dicom.ae_title},
            "hl7": {"host": gateway.hl7.host, "port": hl7.port},
        }

    def _order_options(self) -> OrderOptions:
        door = self._settings.gateway.hl7
        zone = ZoneInfo(self._settings.time_zone) if self._settings.time_zone else UTC
        return OrderOptions(
            routine_priority=door.routine_priority,
            patient_id_authority=door.patient_id_authority,
            time_zone=zone,
        )

    def _start_worker(self, service: Service) -> None:
        deliverers = make_deliverers(self._settings, utc_now)
        sinks = make_sinks(self._settings, self._data, utc_now)
        worker = Worker(
            service, deliverers, sinks, name=f"{socket.gethostname()}:{self._data.resolve()}", clock=utc_now
        )
        worker.start()
        self._worker = worker
        self._closing.callback(worker.stop)

    def _start_performer(self) -> None:
        performer = self._settings.performer
        local = LocalPerformer(
            manager_url=performer.manager_url or self._dicomweb_base(),
            work=self._data / "performer",
            settings=performer,
        )
        local.start()
        self._closing.callback(local.stop)

    def _announce(self, endpoints: Mapping[str, object]) -> None:
        path = self._announced
        partial = path.with_suffix(".json.part")
        partial.write_bytes(orjson.dumps(endpoints, option=orjson.OPT_INDENT_2))
        partial.replace(path)
        self._closing.callback(path.unlink, missing_ok=True)
        _LOG.info("all doors are open", extra={"action": "serve.ready"})

    def _dicomweb_base(self) -> str:
        if self._settings.gateway.http.public_url:
            return f"{self._settings.gateway.http.public_url.rstrip('/')}/dicom-web"
        if self._http is not None:
            return f"{self._http.url}/dicom-web"
        door = self._settings.gateway.http
        return f"http://{door.host}:{door.port}/dicom-web"

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.wake()


def _bound(key: str, opening: Callable[[], _T]) -> _T:
    try:
        return opening()
    except OSError as error:
        raise ConfigurationError(
            Fault(
                key,
                f"cannot listen: {error.strerror}; stop what uses the port or choose another (0 takes any)",
            )
        ) from error
