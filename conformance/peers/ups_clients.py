# SPDX-License-Identifier: Apache-2.0
"""UPS clients of others: dcmjs-dimse over DIMSE, and the fetch and WebSocket of Node over UPS-RS.

Each call runs one Node process through a list of steps and returns one answer per step. What a step may be
stands at the head of ``node/ups_scu.mjs`` and ``node/ups_rs_client.mjs``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.datadict import keyword_for_tag

from conformance.peers.installed import node_modules, node_program, node_script
from conformance.peers.process import PeerFailedError

Step = Mapping[str, Any]
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DimseAnswer:
    """What dcmjs-dimse was answered.

    Attributes
    ----------
    status
        The last status of the exchange, -1 without one.
    data_sets
        Those that came, by keyword as dcmjs names attributes.
    """

    status: int
    data_sets: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAnswer:
    """What an HTTP request or a notification connection was answered."""

    status: int
    headers: Mapping[str, str]
    content: Any


def dimse_steps(
    host: str,
    port: int,
    steps: Sequence[Step],
    *,
    called_ae_title: str,
    calling_ae_title: str = "DCMJS",
    listen_port: int | None = None,
) -> list[DimseAnswer]:
    """Send `steps` with dcmjs-dimse, each over an association of its own.

    Raises
    ------
    PeerFailedError
        When the association is refused or the connection fails.
    """
    arguments = [str(node_modules()), host, str(port), called_ae_title, calling_ae_title]
    arguments += [] if listen_port is None else [str(listen_port)]
    told = _run("ups_scu.mjs", arguments, steps)
    return [DimseAnswer(status=each["status"], data_sets=tuple(each["dataSets"])) for each in told]


def web_steps(base_url: str, steps: Sequence[Step]) -> list[WebAnswer]:
    """Send `steps` to the DICOMweb service at `base_url`.

    Raises
    ------
    PeerFailedError
        When a connection fails.
    """
    told = _run("ups_rs_client.mjs", [base_url], steps)
    return [
        WebAnswer(status=each["status"], headers=each["headers"], content=each["content"]) for each in told
    ]


def named(data_set: Mapping[str, Any]) -> dict[str, Any]:
    """DICOM JSON as dcmjs takes data sets: by keyword, one value bare, sequences as lists of items."""
    found: dict[str, Any] = {}
    for tag, attribute in data_set.items():
        values = [
            named(value)
            if attribute["vr"] == "SQ"
            else value.get("Alphabetic", "")
            if attribute["vr"] == "PN"
            else value
            for value in attribute.get("Value", ())
        ]
        sequence = attribute["vr"] == "SQ"
        found[keyword_for_tag(tag)] = values if sequence or len(values) > 1 else values[0] if values else ""
    return found


def _run(script: str, arguments: Sequence[str], steps: Sequence[Step]) -> list[dict[str, Any]]:
    command = [str(node_program()), str(node_script(script)), *arguments]
    done = subprocess.run(
        command,
        input=json.dumps(list(steps)),
        cwd=Path(node_script(script)).parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TIMEOUT_S,
    )
    if done.returncode:
        raise PeerFailedError(f"{script}: {done.stderr[-4000:]}")
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers
