# SPDX-License-Identifier: Apache-2.0
"""The MLLP door: connections, limits and time; what a message means is not known here.

Per connection messages are answered strictly in order. A connection ends when it is idle, when a message
takes too long to arrive, when it sends no frames, or when its peer will not read answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass

from informatics_gateway.hl7.mllp import MAX_MESSAGE_BYTES, Frame, FrameReader, Oversize, framed
from informatics_gateway.hl7.receiver import MessageReceiver, Reply
from profiles.hl7.options import Reading
from task_manager.ports import MessageIntake

_LOG = logging.getLogger(__name__)
_READ_BYTES = 65536
_LINGER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """What one peer may take.

    Attributes
    ----------
    max_message_bytes
        A longer message is rejected (AR) and its connection closed.
    max_connections
        Further connections are closed at once.
    idle_timeout_s
        Longest silence between two messages.
    message_timeout_s
        Longest time from the start block to the end block, and for a peer to take an answer.
    drain_timeout_s
        How long `stop` waits for messages being processed.
    """

    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_connections: int = 64
    idle_timeout_s: float = 600.0
    message_timeout_s: float = 60.0
    drain_timeout_s: float = 10.0


class MllpListener:
    """Takes messages over MLLP and hands them to the intake in a thread.

    Parameters
    ----------
    intake
        Where messages are committed; called from threads.
    host, port
        Address to listen on; port 0 means any free one.
    reading
        How each sender's messages are read.
    tls
        Server context for MLLP over TLS; None for plain TCP.
    """

    def __init__(
        self,
        intake: MessageIntake,
        *,
        host: str = "127.0.0.1",
        port: int = 2575,
        reading: Reading | None = None,
        limits: ListenerLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._receiver = MessageReceiver(intake, reading)
        self._host = host
        self._wanted_port = port
        self._limits = limits or ListenerLimits()
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._busy: dict[asyncio.Task[None], bool] = {}
        self._stopping = False

    @property
    def port(self) -> int:
        """The port listened on.

        Raises
        ------
        RuntimeError
            If the listener is not started.
        """
        if self._server is None:
            raise RuntimeError("the listener is not started")
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Open the door.

        Raises
        ------
        OSError
            If the address cannot be taken.
        """
        self._stopping = False
        handshake = self._limits.message_timeout_s if self._tls else None
        self._server = await asyncio.start_server(
            self._serve,
            self._host,
            self._wanted_port,
            ssl=self._tls,
            ssl_handshake_timeout=handshake,
            limit=_READ_BYTES,
        )
        _LOG.info("listening", extra={"action": "hl7.listen", "host": self._host, "port": self.port})

    async def stop(self) -> None:
        """Close the door: messages being processed are answered, idle connections end. Safe to repeat."""
        if self._server is None:
            return
        self._stopping = True
        self._server.close()
        for task, busy in list(self._busy.items()):
            if not busy:
                task.cancel()
        if self._busy:
            _, late = await asyncio.wait(list(self._busy), timeout=self._limits.drain_timeout_s)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=self._limits.drain_timeout_s)
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = writer.get_extra_info("peername") or ("",)
        address = str(peer[0])
        if self._stopping or len(self._busy) >= self._limits.max_connections:
            _LOG.warning("connection turned away", extra={"action": "hl7.full", "peer": address})
            writer.close()
            return
        self._busy[task] = False
        try:
            await self._converse(task, reader, writer, address)
        except (OSError, TimeoutError) as error:  # includes ssl.SSLError and reset connections
            _LOG.info(
                "connection ended",
                extra={"action": "hl7.end", "peer": address, "reason": type(error).__name__},
            )
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        except Exception as error:  # the edge of one connection  # noqa: BLE001
            _LOG.error(  # no traceback: the text of an error may hold values of the message
                "connection failed",
                extra={"action": "hl7.fail", "peer": address, "error": type(error).__name__},
            )
        finally:
            await self._close(writer)
            del self._busy[task]

    async def _close(self, writer: asyncio.StreamWriter) -> None:
        writer.close()
        try:
            async with asyncio.timeout(min(2.0, self._limits.message_timeout_s)):
                await writer.wait_closed()
        except (OSError, TimeoutError, asyncio.CancelledError):
            with contextlib.suppress(OSError):
                writer.transport.abort()

    async def _converse(
        self,
        task: asyncio.Task[None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        address: str,
    ) -> None:
        limits = self._limits
        frames = FrameReader(limits.max_message_bytes)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.idle_timeout_s
        while not self._stopping:
            async with asyncio.timeout_at(deadline):
                data = await reader.read(_READ_BYTES)
            if not data:
                return
            was_inside = frames.inside
            events = frames.feed(data)
            for event in events:
                if isinstance(event, Frame):
                    self._busy[task] = True
                    reply = await asyncio.to_thread(self._receiver.answer, event.payload, address=address)
                else:
                    reply = self._overrun(event, address)
                await self._send(writer, reply)
                self._busy[task] = False
                if reply.close and reply.message is not None:
                    await self._linger(reader, writer)
                if reply.close or self._stopping:
                    return
            if events:
                deadline = loop.time() + limits.idle_timeout_s
            if frames.inside and (events or not was_inside):
                deadline = loop.time() + limits.message_timeout_s

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read on for a moment: closing on a peer that still sends would take its answer away (RST)."""
        left = 8 * self._limits.max_message_bytes
        with contextlib.suppress(TimeoutError, OSError):
            if writer.can_write_eof():
                writer.write_eof()
            async with asyncio.timeout(_LINGER_S):
                while left > 0 and (data := await reader.read(_READ_BYTES)):
                    left -= len(data)

    def _overrun(self, event: object, address: str) -> Reply:
        _LOG.warning(
            "stream over its limits",
            extra={"action": "hl7.limit", "peer": address, "kind": type(event).__name__},
        )
        if isinstance(event, Oversize):
            return self._receiver.oversize(event.head)
        return Reply(message=None, close=True)

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> None:
        if reply.message is None:
            return
        writer.write(framed(reply.message))
        if reply.second is not None:
            writer.write(framed(reply.second))
        async with asyncio.timeout(self._limits.message_timeout_s):
            await writer.drain()
