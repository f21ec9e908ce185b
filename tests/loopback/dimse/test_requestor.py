# SPDX-License-Identifier: Apache-2.0
"""Associations that we open: an answer reaches who waits for it, whichever thread saw it first."""

from __future__ import annotations

from pathlib import Path

from pynetdicom.dimse_primitives import C_ECHO
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from informatics_gateway.dimse.requestor import DicomAddress, association
from informatics_gateway.dimse.server import DimseServer
from tests.instances import FolderIntake

HOST = "127.0.0.1"


def test_an_answer_that_the_librarys_thread_took_is_put_back(tmp_path: Path) -> None:
    server = DimseServer(FolderIntake(tmp_path))
    server.start()
    try:
        address = DicomAddress(host=HOST, port=server.port, called_ae_title="AIRWAY")
        with association([build_context(Verification)], address, timeout_s=10) as peer:
            answer = C_ECHO()
            answer.MessageIDBeingRespondedTo = 7
            answer.Status = 0x0000
            peer._serve_request(answer, 1)
            assert peer.dimse.msg_queue.get(timeout=10) == (1, answer)
            assert all(peer.send_c_echo().Status == 0x0000 for _ in range(200))
    finally:
        server.stop()
