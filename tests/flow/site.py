# SPDX-License-Identifier: Apache-2.0
"""A running task manager as clients and operators see it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import httpx

from ai_apps.ups_rs.client import UpsRsClient
from profiles.codes import ASSIGNMENT_REJECTED
from profiles.dicom_json import element, items, merged, text
from profiles.ups.context import code_item
from tests.contract.workitems import minimal, performed
from tests.flow.airway import RunningAirway

WAIT_S = 30.0
PATIENT = {"PatientName": "Müller^Zoë", "PatientID": "PAT-4711", "IssuerOfPatientID": "HOSP"}
"""Nothing of it may be in a log."""
REJECTION = merged(
    [
        element("ReasonForCancellation", "not for me"),
        element("ProcedureStepDiscontinuationReasonCodeSequence", code_item(ASSIGNMENT_REJECTED)),
    ]
)


def eventually(what: str, ask: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
    """The first answer that is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


class Site:
    """One task manager, asked by somebody called `name`."""

    def __init__(self, airway: RunningAirway, name: str) -> None:
        self.airway = airway
        self.http = airway.http
        self.client = UpsRsClient(f"{airway.http}/dicom-web", name=name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def create(self, **given: Any) -> str:
        """A new workitem with inputs of its own, as far as `given` says nothing else."""
        start = datetime.now(UTC).strftime("%Y%m%d%H%M%S+0000")
        return self.client.create(
            minimal(**{"ScheduledProcedureStepStartDateTime": start, **PATIENT, **given})
        ).uid

    def status(self, uid: str) -> dict[str, Any]:
        """Where a workitem stands, as an operator sees it."""
        answer = httpx.get(f"{self.http}/api/workitems/{uid}", timeout=10).raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    def state(self, uid: str) -> str:
        """Procedure Step State."""
        return text(self.client.retrieve(uid), "ProcedureStepState")

    def stations(self, uid: str) -> list[str]:
        """AE titles it is assigned to."""
        assigned = items(self.client.retrieve(uid), "ScheduledStationNameCodeSequence")
        return [text(station, "CodeValue") for station in assigned]

    def reason(self, uid: str) -> tuple[str, str]:
        """Code and text of why a workitem was canceled."""
        [told] = items(self.client.retrieve(uid), "ProcedureStepProgressInformationSequence")
        [code] = items(told, "ProcedureStepDiscontinuationReasonCodeSequence")
        return text(code, "CodeValue"), text(told, "ReasonForCancellation")

    def is_ready(self, uid: str) -> bool:
        """Whether its inputs are all there."""
        return text(self.client.retrieve(uid), "InputReadinessState") == "READY"

    def child(self, uid: str, role: str) -> str:
        """UID of the newest sub-task of that role that was created; empty while there is none."""
        found = [one for one in self.status(uid)["subtasks"] if one["role"] == role]
        return str(found[-1]["uid"]) if found and found[-1]["state"] != "planned" else ""

    def attention(self) -> dict[str, str]:
        """UID of what waits for a person to why it does."""
        answer = httpx.get(f"{self.http}/api/attention", timeout=10).raise_for_status()
        return {str(one["uid"]): str(one["why"]) for one in answer.json()["workitems"]}

    def retry(self, uid: str) -> str:
        """What a person decided to make of a workitem that waited: the UID of the new one."""
        answer = httpx.post(f"{self.http}/api/workitems/{uid}/retry", timeout=10).raise_for_status()
        return str(answer.json()["replaced_by"])

    def do(self, uid: str, *, lock: str = "", **results: Any) -> None:
        """Perform a workitem from the claim, or from the claim that `lock` is of, to its end."""
        lock = lock or self.client.claim(uid)
        self.client.update(uid, performed(**results), transaction_uid=lock)
        self.client.change_state(uid, "COMPLETED", transaction_uid=lock)

    def wait_state(self, uid: str, state: str) -> None:
        """Return as soon as a workitem is in a state."""
        eventually(f"{uid} {state}", lambda: self.state(uid) == state)

    def patients_in_log(self) -> list[str]:
        """Lines of the log that tell of the patient."""
        log = self.airway.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        told = (*PATIENT.values(), "M\\u00fcller", "Zo\\u00eb")
        return [line for line in log if any(part in line for part in told if part != "HOSP")]
