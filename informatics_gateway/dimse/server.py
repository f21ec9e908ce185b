# SPDX-License-Identifier: Apache-2.0
"""The DICOM port: negotiates associations and hands each message to its provider; answers C-ECHO.

pynetdicom speaks; this module says what is accepted: every storage SOP class it knows and those listed by
configuration, in any transfer syntax of PS3.6, the UPS classes, Instance Availability Notification and
performed procedure steps without compression, all in the order of the peer. Nothing here reads a data set.
"""

from __future__ import annotations

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakSet

from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, _config, build_context, evt, register_uid
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from informatics_gateway.dimse.admission import Admission, Rejection
from informatics_gateway.dimse.availability_scp import AvailabilityProvider
from informatics_gateway.dimse.commitment import SOP_CLASS as COMMITMENT
from informatics_gateway.dimse.commitment import ActionStatus
from informatics_gateway.dimse.commitment_scp import CommitmentProvider
from informatics_gateway.dimse.commitment_scu import take_report
from informatics_gateway.dimse.listener import Listener
from informatics_gateway.dimse.part10 import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from informatics_gateway.dimse.performed_step_scp import PerformedStepProvider
from informatics_gateway.dimse.receive_loop import Negotiated
from informatics_gateway.dimse.receivers import Receivers
from informatics_gateway.dimse.steering import steer
from informatics_gateway.dimse.storage_scp import StorageProvider
from informatics_gateway.dimse.ups_dataset import TRANSFER_SYNTAXES
from informatics_gateway.dimse.ups_messages import INSTANCE_AVAILABILITY, PERFORMED_STEP, SERVICES
from informatics_gateway.dimse.ups_scp import UpsProvider
from task_manager.actor import Actor
from task_manager.delivery.commitment import Reported
from task_manager.performed_steps import PerformedStepIntake
from task_manager.ports import AvailabilityIntake, InstanceIntake, Subscriptions, Worklist

_LOG = logging.getLogger(__name__)
_TRANSFER_SYNTAXES = frozenset(str(uid) for uid in AllTransferSyntaxes)
_UNCOMPRESSED = frozenset(TRANSFER_SYNTAXES)
_STORAGE = frozenset(str(context.abstract_syntax) for context in AllStoragePresentationContexts)
_POLL_S = 0.2


class DimseServer:
    """Listens for associations until :meth:`stop`.

    Parameters
    ----------
    intake
        Where instances go.
    ae_title
        Our AE title. Associations that call another one are rejected unless `any_called_ae_title`.
    host, port
        Address to listen on; port 0 takes any free port.
    admission
        Who may have an association; anybody if it is not given.
    extra_sop_classes
        SOP classes that are stored too: private ones, or newer than the library.
    max_associations
        More at a time are rejected as transient, local limit exceeded (PS3.8 9.3.4).
    network_timeout_s
        An association that sends nothing for so long, also inside a message, is aborted.
    tls
        What connections are secured with; None speaks in the clear.
    worklist, subscriptions
        What the five UPS SOP classes work on; without a worklist they are not offered.
    availability
        Where Instance Availability Notifications go; without, they are not offered.
    commitment
        Answers storage commitment; without, it is not offered.
    reported
        Keeps reports of storage commitment that we asked others for; without, they are not taken.
    performed_steps
        Where performed procedure steps of modalities go; without, they are not offered.
    is_congested
        Whether associations that would store are rejected for now, temporary congestion (PS3.8 9.3.4).
    receivers
        Processes that receive C-STORE beside this one; started and stopped with the port.
    """

    def __init__(
        self,
        intake: InstanceIntake,
        *,
        ae_title: str = "AIRWAY",
        host: str = "127.0.0.1",
        port: int = 0,
        admission: Admission | None = None,
        extra_sop_classes: Sequence[str] = (),
        max_associations: int = 64,
        network_timeout_s: float = 60.0,
        tls: ssl.SSLContext | None = None,
        worklist: Worklist | None = None,
        subscriptions: Subscriptions | None = None,
        availability: AvailabilityIntake | None = None,
        commitment: CommitmentProvider | None = None,
        reported: Reported | None = None,
        performed_steps: PerformedStepIntake | None = None,
        is_congested: Callable[[], bool] = lambda: False,
        receivers: Receivers | None = None,
    ) -> None:
        self.ae_title = ae_title
        self._receivers = receivers
        self._address = (host, port)
        self._provider = StorageProvider(intake)
        self._admission = admission or Admission()
        self._tls = tls
        self._timeout_s = network_timeout_s
        self._ups = UpsProvider(worklist, subscriptions) if worklist is not None else None
        self._availability = AvailabilityProvider(availability) if availability is not None else None
        self._normalized = frozenset(SERVICES if worklist is not None else ())
        if availability is not None:
            self._normalized |= {INSTANCE_AVAILABILITY}
        self._commitment = commitment
        self._reported = reported
        self._is_congested = is_congested
        if commitment is not None or reported is not None:
            self._normalized |= {COMMITMENT}
        self._steps = PerformedStepProvider(performed_steps) if performed_steps is not None else None
        if performed_steps is not None:
            self._normalized |= {PERFORMED_STEP}
        self._storage = _STORAGE | frozenset(extra_sop_classes)
        for uid in extra_sop_classes:
            register_uid(uid, f"Storage_{uid.replace('.', '_')}", StorageServiceClass)
        self._entity = AE(ae_title=ae_title)
        self._entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        self._entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        self._entity.maximum_pdu_size = 0
        self._entity.maximum_associations = max_associations
        self._entity.network_timeout = network_timeout_s
        self._entity.acse_timeout = min(network_timeout_s, 30.0)
        self._entity.add_supported_context(Verification)
        self._server: Listener | None = None
        self._thread: threading.Thread | None = None
        self._ended: WeakSet[Any] = WeakSet()
        self._admitted: WeakSet[Any] = WeakSet()
        self._admitting = threading.Lock()

    @property
    def host(self) -> str:
        """The address listened on."""
        return self._address[0]

    @property
    def port(self) -> int:
        """The port listened on; the one that was found after :meth:`start` for port 0."""
        return self._address[1]

    def start(self) -> None:
        """Open the port and serve in the background.

        Raises
        ------
        OSError
            If the address is taken or not ours.
        """
        # the library's own per-message log is of no use to operators and costs time for each PDU
        _config.LOG_HANDLER_LEVEL = "none"
        server: Listener = self._entity.make_server(  # type: ignore[assignment]
            self._address,
            evt_handlers=[
                (evt.EVT_REQUESTED, self._consider),
                (evt.EVT_C_ECHO, _echo),
                (evt.EVT_N_CREATE, self._create),
                (evt.EVT_N_SET, self._set),
                (evt.EVT_N_ACTION, self._act),
                (evt.EVT_N_EVENT_REPORT, self._hear),
                *self._ups_handlers(),
                (evt.EVT_REJECTED, _log_rejection),
                (evt.EVT_ABORTED, _log_abort),
                (evt.EVT_PDU_SENT, self._log_own_abort),
            ],
            server_class=Listener,
        )
        server.provider = self._provider
        server.negotiated = self._negotiated
        server.admission = self._admission
        server.tls = self._tls
        server.timeout_s = self._timeout_s
        server.receivers = self._receivers
        if self._receivers is not None:
            self._receivers.start()
        self._address = (self._address[0], int(server.server_address[1]))
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_S,), name="dicom-listener", daemon=True
        )
        self._thread.start()
        if self._commitment is not None:
            self._commitment.start()
        _LOG.info("DICOM port open", extra={"action": "dimse.started", "port": self.port})

    def stop(self, grace_s: float = 5.0) -> None:
        """Take no new associations, let the open ones end for `grace_s` seconds, then abort them."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._server = self._thread = None
        server.shutdown()
        thread.join()
        if self._commitment is not None:
            self._commitment.stop()
        deadline = time.monotonic() + grace_s
        while server.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in server.active_associations:
            association.abort()
        for association in server.active_associations:
            association.join(timeout=grace_s)
        if self._receivers is not None:
            self._receivers.stop()
        _LOG.info("DICOM port closed", extra={"action": "dimse.stopped"})

    def _consider(self, event: Any) -> None:
        """A peer asks for an association: reject it, or offer it what it may have."""
        association = event.assoc
        asked = association.requestor.primitive
        calling = str(asked.calling_ae_title).strip()
        with self._admitting:
            rejection = self._admission.rejection(
                called=str(asked.called_ae_title).strip(),
                calling=calling,
                address=str(association.requestor.address),
                already_open=sum(
                    _is_open(one) and str(one.requestor.primitive.calling_ae_title).strip() == calling
                    for one in self._admitted
                ),
            )
            if rejection is None and self._is_congested() and self._would_store(asked):
                rejection = Rejection.CONGESTION
            if rejection is None:
                self._admitted.add(association)
        if rejection is None:
            self._offer_contexts(association, stores=self._admission.caller(calling).stores)
        else:
            _reject(association, rejection)

    def _would_store(self, asked: Any) -> bool:
        proposed = asked.presentation_context_definition_list
        return any(str(context.abstract_syntax) in self._storage for context in proposed)

    def _negotiated(self, association: Any) -> Negotiated:
        """What the receive loop needs to know."""
        contexts = association.accepted_contexts
        return Negotiated(
            contexts={one.context_id: str(one.transfer_syntax[0]) for one in contexts},
            storage=frozenset(
                one.context_id for one in contexts if one.as_scp and one.abstract_syntax in self._storage
            ),
            largest_pdu=association.requestor.maximum_length or 0,
            actor=Actor(
                door="dicom",
                name=str(association.requestor.ae_title).strip(),
                address=str(association.requestor.address),
                called=str(association.requestor.primitive.called_ae_title).strip(),
            ),
        )

    def _offer_contexts(self, association: Any, *, stores: bool) -> None:
        """Before negotiation: support what this peer proposes, its first transfer syntax first.

        A list made for each association costs less than copying all SOP classes in all transfer syntaxes, and
        it keeps data as it comes: a peer that proposes the encoding it holds first is not asked for another.
        """
        wanted: dict[str, list[str]] = {}
        for context in association.requestor.primitive.presentation_context_definition_list:
            sop_class = str(context.abstract_syntax)
            if stores and sop_class in self._storage:
                readable = _TRANSFER_SYNTAXES
            elif sop_class in self._normalized:
                readable = _UNCOMPRESSED
            else:
                continue
            syntaxes = wanted.setdefault(sop_class, [])
            known = readable.intersection(context.transfer_syntax).difference(syntaxes)
            syntaxes += [str(uid) for uid in context.transfer_syntax if uid in known]
        offered = [build_context(uid, syntaxes) for uid, syntaxes in wanted.items() if syntaxes]
        for context in offered:
            if context.abstract_syntax == COMMITMENT:  # one that asks us, or one that reports to us
                context.scu_role = self._commitment is not None
                context.scp_role = self._reported is not None
        association.acceptor.supported_contexts = association.acceptor.supported_contexts + offered
        if not self._normalized.isdisjoint(wanted):
            association.bind(evt.EVT_DIMSE_RECV, steer)

    def _ups_handlers(self) -> Iterator[tuple[Any, Any]]:
        if self._ups is not None:
            yield evt.EVT_N_GET, self._ups.handle_get
            yield evt.EVT_C_FIND, self._ups.handle_find

    def _create(self, event: Any) -> Any:
        """N-CREATE goes to the provider of its presentation context; only what was offered is accepted."""
        provider: UpsProvider | AvailabilityProvider | PerformedStepProvider | None = self._ups
        if event.context.abstract_syntax == INSTANCE_AVAILABILITY:
            provider = self._availability
        elif event.context.abstract_syntax == PERFORMED_STEP:
            provider = self._steps
        assert provider is not None
        return provider.handle_create(event)

    def _set(self, event: Any) -> Any:
        """N-SET goes to the provider of its presentation context."""
        provider = self._steps if event.context.abstract_syntax == PERFORMED_STEP else self._ups
        assert provider is not None
        return provider.handle_set(event)

    def _act(self, event: Any) -> Any:
        """N-ACTION goes to the provider of its presentation context."""
        if event.context.abstract_syntax == COMMITMENT:
            if self._commitment is None:
                return int(ActionStatus.PROCESSING_FAILURE), None
            return self._commitment.handle_action(event)
        assert self._ups is not None
        return self._ups.handle_action(event)

    def _hear(self, event: Any) -> Any:
        """N-EVENT-REPORT goes to who waits for it; only what was offered is accepted."""
        if event.context.abstract_syntax == COMMITMENT:
            if self._reported is None:
                return int(ActionStatus.PROCESSING_FAILURE), None
            return take_report(event, self._reported), None
        assert self._ups is not None
        return self._ups.handle_event_report(event)

    def _log_own_abort(self, event: Any) -> None:
        """One line per connection that is ended because of what it sent; each bit of garbage is an abort."""
        if not isinstance(event.pdu, A_ABORT_RQ) or event.assoc in self._ended:
            return
        self._ended.add(event.assoc)
        _LOG.warning(
            "connection ended by the DICOM port",
            extra={"action": "dimse.ended", "address": str(event.assoc.requestor.address)},
        )


def _echo(event: Any) -> int:
    return 0x0000


def _is_open(association: Any) -> bool:
    """Whether it counts: a peer that has released may come again while our threads still end."""
    return association.is_alive() and not (association.is_released or association.is_aborted)


def _reject(association: Any, rejection: Rejection) -> None:
    association.acse.send_reject(*rejection.value)
    evt.trigger(association, evt.EVT_REJECTED, {})
    association.kill()


def _log_rejection(event: Any) -> None:
    _LOG.warning(
        "association rejected",
        extra={"action": "dimse.rejected", "address": str(event.assoc.requestor.address)},
    )


def _log_abort(event: Any) -> None:
    _LOG.warning(
        "association aborted",
        extra={"action": "dimse.aborted", "address": str(event.assoc.requestor.address)},
    )
