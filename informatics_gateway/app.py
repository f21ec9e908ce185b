# SPDX-License-Identifier: Apache-2.0
"""The composition root: builds every room from the settings, opens the doors, and closes them in order.

The only place that knows all rooms. It decides nothing about studies or workitems.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import orjson
from fastapi import FastAPI

from ai_apps.catalog import catalog
from ai_apps.manifest import Manifest
from informatics_gateway import api, fetch_api, study_routes
from informatics_gateway.archives import fetch_limits, make_study_archives
from informatics_gateway.completeness_settings import completeness_policies
from informatics_gateway.configuration import configured_rules, database_url
from informatics_gateway.delivery_policies import delivery_policies
from informatics_gateway.destinations import (
    event_sink_names,
    failure_destinations,
    make_deliverers,
    make_sinks,
    told_own_events,
)
from informatics_gateway.dicom_settings import door_admission, door_tls
from informatics_gateway.dicomweb import (
    event_channel,
    qido_rs,
    stow_rs,
    studies_options,
    ups_rs,
    wado_rs,
)
from informatics_gateway.dimse.commitment_scp import CommitmentProvider
from informatics_gateway.dimse.commitment_spool import CommitmentSpool
from informatics_gateway.dimse.event_scu import DimseEventSender
from informatics_gateway.dimse.receivers import Receivers
from informatics_gateway.dimse.server import DimseServer
from informatics_gateway.dimse_watchers import DimseChannel
from informatics_gateway.disk import COMMITMENTS, Disk
from informatics_gateway.disk_settings import space_limits
from informatics_gateway.hl7.server import DRAIN_S, Hl7Server
from informatics_gateway.hl7_door import limits_of, mllp_tls_context, reading_of
from informatics_gateway.http_server import HttpServer, answer_store_failures, let_pages_ask
from informatics_gateway.local_performer import LocalPerformer
from informatics_gateway.performers import (
    dispatch_settings,
    heartbeat_s,
    lease_limits,
    make_archives,
    make_push_clients,
    peer_addresses,
    retention_limits,
    watching_settings,
)
from informatics_gateway.receiving_process import start_receiver
from informatics_gateway.request_doors import request_routers
from informatics_gateway.result_destinations import Surroundings
from informatics_gateway.settings import Role, Settings
from informatics_gateway.watchers import WatcherHub
from informatics_gateway.websocket_watchers import WebSocketChannel
from profiles.faults import Fault
from task_manager.dispatch.model import LeaseLimits, WorkitemTemplate
from task_manager.doorkeeping import GuardedMessages, GuardedWorklist
from task_manager.errors import ConfigurationError
from task_manager.scheduling import AppOffer
from task_manager.service import Service, ServiceSettings
from task_manager.store.database import Database
from task_manager.store.journal import going_down
from task_manager.store.listening import ReportListener
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
        self._hub: WatcherHub | None = None
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
            service, disk = self._make_service()
            if Role.GATEWAY in self._roles:
                endpoints.update(self._open_doors(service, disk))
            if Role.TASK_MANAGER in self._roles:
                self._start_worker(service)
        if Role.PERFORMER in self._roles:
            self._start_performer()
        self._ready = True
        _settle_memory()
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

    def _make_service(self) -> tuple[Service, Disk]:
        settings = self._settings
        manifests = catalog()
        apps = {
            name: AppOffer(
                name=manifest.name,
                version=manifest.version,
                label=manifest.title,
                code=manifest.workitem_code,
                parameters=manifest.parameter_values({}),
                template=_template(manifest),
            )
            for name, manifest in manifests.items()
        }
        rules = configured_rules(settings, self._config, list(apps))
        database = Database(database_url(settings, self._data))
        self._closing.callback(database.close)
        database.migrate()
        disk = Disk(settings, self._data, database, clock=utc_now)
        study_archives = make_study_archives(settings)
        for archive in study_archives:
            self._closing.callback(archive.close)
        service = Service(
            database,
            disk.objects,
            rules,
            apps,
            ServiceSettings(
                quiet_period=timedelta(seconds=settings.study.quiet_period_s),
                completeness=completeness_policies(
                    settings.study.quiet_period_s, settings.study.completeness, settings.study.sources
                ),
                destinations=tuple(destination.name for destination in settings.destinations),
                deliveries=delivery_policies(settings),
                event_sinks=event_sink_names(settings),
                told_events=told_own_events(settings),
                failure_destinations=failure_destinations(settings),
                dispatch=dispatch_settings(
                    settings, {name: _limits(one, settings) for name, one in manifests.items()}
                ),
                retention=retention_limits(settings),
                watching=watching_settings(settings),
                fetching=fetch_limits(settings),
            ),
            base_url=self._dicomweb_base,
            clock=utc_now,
            wake=self._wake,
            news=self._tell_news,
            wake_jobs=self._wake_jobs,
            wake_tellings=self._wake_tellings,
            archives=make_archives(settings),
            study_archives=study_archives,
            has_room=disk.room.takes_images,
            takes_messages=disk.room.takes_messages,
            new_uid=lambda: f"2.25.{uuid.uuid4().int}",
        )
        if Role.GATEWAY in self._roles:
            disk.objects.sweep_incoming(service.is_recorded)
        disk.start(self._roles)
        self._closing.callback(disk.stop)
        return service, disk

    def _open_doors(self, service: Service, disk: Disk) -> Mapping[str, object]:
        gateway = self._settings.gateway
        workitems = GuardedWorklist(service.worklist, disk.room)
        worklist = ups_rs.router(workitems, service.subscriptions, public_url=self._public_base())
        web = FastAPI(title="Airway", docs_url="/api/docs", openapi_url="/api/openapi.json", redoc_url=None)
        answer_store_failures(web)
        let_pages_ask(web, gateway.http.cors_origins)
        channel = WebSocketChannel(service.journal)
        for routes in (
            worklist,
            event_channel.router(channel),
            stow_rs.router(service.intake, public_url=self._public_base()),
            wado_rs.router(service.archive, public_url=self._public_base()),
            qido_rs.router(service.archive, public_url=self._public_base()),
            studies_options.router(public_url=self._public_base()),
            study_routes.router(service),
            fetch_api.router(service),
            api.router(service, lambda: self._ready, disk.report),
            *request_routers(service, gateway.fhir, public_url=gateway.http.public_url, clock=utc_now),
        ):
            web.include_router(routes)
        doors = (
            [] if gateway.http.cors_origins else [worklist]
        )  # what pages ask passes the application's layers
        self._http = _bound(
            "gateway.http", lambda: HttpServer(web, gateway.http.host, gateway.http.port, doors=doors)
        )
        http = self._http
        http.start()
        self._closing.callback(http.stop)
        spool = CommitmentSpool(self._data / COMMITMENTS)
        spool.sweep()
        dimse = DimseServer(
            service.intake,
            ae_title=gateway.dicom.ae_title,
            host=gateway.dicom.host,
            port=gateway.dicom.port,
            admission=door_admission(gateway.dicom),
            extra_sop_classes=gateway.dicom.sop_classes,
            max_associations=gateway.dicom.most_associations,
            network_timeout_s=gateway.dicom.silence_s,
            tls=door_tls(gateway.dicom),
            worklist=workitems,
            subscriptions=service.subscriptions,
            availability=service.availability,
            performed_steps=service.performed_steps,
            commitment=CommitmentProvider(
                service.archive,
                spool,
                peer_addresses(self._settings),
                clock=utc_now,
            ),
            reported=service.deliveries.report_commitment,
            is_congested=lambda: self._settings.disk.reject_associations and not disk.room.takes_images(),
            receivers=self._receivers(service, disk),
        )
        _bound("gateway.dicom", dimse.start)
        self._closing.callback(dimse.stop)
        hl7 = Hl7Server(
            GuardedMessages(service.intake, disk.room),
            gateway.hl7.host,
            gateway.hl7.port,
            reading_of(gateway.hl7, self._settings.time_zone),
            limits=limits_of(gateway.hl7, drain_timeout_s=DRAIN_S),
            tls=mllp_tls_context(gateway.hl7.tls),
        )
        _bound("gateway.hl7", hl7.start)
        self._closing.callback(hl7.stop)
        self._start_watching(service, channel)
        service.sweeps.started(utc_now())  # performers could not be heard until now
        return {
            "http": http.url,
            "dicom": {"host": gateway.dicom.host, "port": dimse.port, "ae_title": gateway.dicom.ae_title},
            "hl7": {"host": gateway.hl7.host, "port": hl7.port},
        }

    def _receivers(self, service: Service, disk: Disk) -> Receivers | None:
        """The processes that receive beside this one, where several are to.

        Raises
        ------
        ConfigurationError
            If they could not keep to a quota: each counts what it writes itself.
        """
        count = self._settings.gateway.dicom.processes
        if count == 1:
            return None
        if space_limits(self._settings.disk).most_bytes:
            raise ConfigurationError(
                Fault("gateway.dicom.processes", "more than 1 goes with no quota; leave out one of the two")
            )
        return Receivers(
            count,
            start_receiver(self._settings, self._data),
            wake=self._wake,
            died=lambda: disk.objects.sweep_incoming(service.is_recorded),
        )

    def _start_watching(self, service: Service, channel: WebSocketChannel) -> None:
        """Tell watchers of a restart, and from now on what is committed; stopped before the doors close."""
        service.journal.record_restart()
        calling = DimseChannel(
            service.journal,
            DimseEventSender(peer_addresses(self._settings)),
            owner=f"{socket.gethostname()}:{os.getpid()}",
            clock=utc_now,
        )
        hub = WatcherHub(service.journal, (channel, calling), farewell=going_down)
        hub.start()
        self._hub = hub
        self._closing.callback(hub.stop)
        listener = ReportListener(service.database, hub.wake)
        listener.start()
        self._closing.callback(listener.stop)

    def _start_worker(self, service: Service) -> None:
        surroundings = Surroundings(
            data=self._data,
            archive=service.archive,
            http_address=lambda: self._dicomweb_base().removesuffix("/dicom-web"),
        )
        deliverers = make_deliverers(self._settings, utc_now, surroundings)
        sinks = make_sinks(self._settings, self._data, utc_now, surroundings)
        clients = make_push_clients(self._settings)
        for client in clients.values():
            self._closing.callback(client.close)
        pushes = {
            peer.ae_title: service.push_step(
                peer.ae_title, clients[peer.ae_title], poll=timedelta(seconds=peer.poll_s)
            )
            for peer in self._settings.manager.performers
            if peer.ae_title in clients
        }
        worker = Worker(
            service,
            deliverers,
            sinks,
            pushes,
            name=f"{socket.gethostname()}:{self._data.resolve()}",
            clock=utc_now,
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
            heartbeat_s=heartbeat_s(self._settings),
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

    def _public_base(self) -> str:
        """Address of the DICOMweb service as clients write it, where that is configured."""
        url = self._settings.gateway.http.public_url
        return f"{url.rstrip('/')}/dicom-web" if url else ""

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.wake()

    def _wake_jobs(self) -> None:
        if self._worker is not None:
            self._worker.wake_jobs()

    def _wake_tellings(self) -> None:
        if self._worker is not None:
            self._worker.wake_tellings()

    def _tell_news(self) -> None:
        if self._hub is not None:
            self._hub.wake()


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


def _settle_memory() -> None:
    """Modules and what was built at the start stay: no collection has to look through them again.

    Workitems are thousands of small dictionaries; with the thresholds of the interpreter each request would
    cause collections that cost more than the request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _template(manifest: Manifest) -> WorkitemTemplate:
    """What the workitems of an app say, as its manifest has it."""
    offered, default = manifest.workitem, WorkitemTemplate()
    return WorkitemTemplate(
        priority=offered.priority or default.priority,
        label=offered.label,
        worklist_label=offered.worklist_label,
        station_class=offered.station_class,
        expected=timedelta(seconds=offered.expected_s) if offered.expected_s else None,
        expires=timedelta(seconds=offered.expires_s) if offered.expires_s else None,
    )


def _limits(manifest: Manifest, settings: Settings) -> LeaseLimits:
    """The lease limits of an app: its manifest's, the site's where it has none."""
    site, own = lease_limits(settings.manager.leases), manifest.limits
    return LeaseLimits(
        silence=timedelta(seconds=own.silence_s) if own.silence_s else site.silence,
        run=timedelta(seconds=own.run_s) if own.run_s else site.run,
        tries=own.tries or site.tries,
    )
