# SPDX-License-Identifier: Apache-2.0
"""The MLLP listener in a thread with an event loop of its own; the rest of the process stays synchronous."""

from __future__ import annotations

import asyncio
import ssl
import threading

from informatics_gateway.hl7.listener import ListenerLimits, MllpListener
from profiles.hl7.options import Reading
from task_manager.ports import MessageIntake

_START_S = 15.0
DRAIN_S = 5.0
"""How long messages being processed are waited for at the end."""
_STOP_S = 25.0


class Hl7Server:
    """Takes messages over MLLP until stopped.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes any free one.
    reading
        How each sender's messages are read.
    limits
        What one peer may take.
    tls
        Server context for MLLP over TLS; None for plain TCP.
    """

    def __init__(
        self,
        intake: MessageIntake,
        host: str,
        port: int,
        reading: Reading,
        *,
        limits: ListenerLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._listener = MllpListener(intake, host=host, port=port, reading=reading, limits=limits, tls=tls)
        self._thread = threading.Thread(target=self._run, name="hl7", daemon=True)

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._listener.port

    def start(self) -> None:
        """Start listening.

        Raises
        ------
        OSError
            If the address cannot be listened on.
        """
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listener.start(), self._loop).result(_START_S)
        except BaseException:
            self._end()
            raise

    def stop(self) -> None:
        """Answer what is under way, close all connections and stop."""
        asyncio.run_coroutine_threadsafe(self._listener.stop(), self._loop).result(_STOP_S)
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
