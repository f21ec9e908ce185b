# SPDX-License-Identifier: Apache-2.0
"""Load on a worklist that may die at any moment, and a journal of everything it has promised.

A step is begun before it is sent and promised once it is answered 2xx. What was begun and never answered may
have happened or not; everything else must be as the journal says.
"""

from __future__ import annotations

import http.client
import random
import threading
from dataclasses import dataclass, field

from profiles.dicom_json import DicomJson, items, text
from tests.contract.workitems import minimal, performed, progress
from tests.flow.asking import Asker

STATES = {
    "create": "SCHEDULED",
    "claim": "IN PROGRESS",
    "progress": "IN PROGRESS",
    "results": "IN PROGRESS",
    "complete": "COMPLETED",
    "cancel": "CANCELED",
}
FINISHED = ("create", "claim", "progress", "results", "complete")
GIVEN_UP = ("create", "claim", "progress", "cancel")
LEFT = ("create", "claim", "progress")
WAITING = ("create",)


@dataclass
class Promise:
    """What became of the steps on one workitem.

    Attributes
    ----------
    done
        Steps that were answered 2xx, in order.
    unsure
        The step that was sent and never answered; empty if none.
    """

    uid: str
    done: list[str] = field(default_factory=list)
    unsure: str = ""

    @property
    def lock(self) -> str:
        """The Transaction UID it is claimed with."""
        return f"{self.uid}.7"

    @property
    def note(self) -> str:
        """The progress description of its update: nobody else's."""
        return f"note of {self.uid}"

    def broken(self, found: DicomJson | None) -> str:
        """What was promised and is not so; empty if all is."""
        possible = [STATES[self.done[-1]] if self.done else None]
        if self.unsure:
            possible.append(STATES[self.unsure])
        state = None if found is None else text(found, "ProcedureStepState")
        if state not in possible:
            return f"{self.uid} is {state}, not one of {possible}: {self.done}, unsure of {self.unsure!r}"
        if found is None:
            return ""
        told = items(found, "ProcedureStepProgressInformationSequence")
        kept = bool(told) and text(told[0], "ProcedureStepProgressDescription") == self.note
        if "progress" in self.done and not kept:
            return f"{self.uid} lost its accepted progress: {self.done}"
        if "results" in self.done and not items(found, "UnifiedProcedureStepPerformedProcedureSequence"):
            return f"{self.uid} lost its accepted results: {self.done}"
        return ""


class Load:
    """Clients in threads that create workitems and lead them on, over and over, until told to stop.

    Attributes
    ----------
    promises
        The journal, of all workitems.
    refused
        Steps that were answered anything but 2xx: there should be none.
    """

    def __init__(self, port: int, clients: int, seed: int) -> None:
        self.promises: list[Promise] = []
        self.refused: list[str] = []
        self._port = port
        self._ended = threading.Event()
        self._random = random.Random(seed)
        self._threads = [
            threading.Thread(target=self._client, args=(number,), name=f"client{number}")
            for number in range(clients)
        ]
        self._numbers = [0] * clients

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after what is under way."""
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _client(self, number: int) -> None:
        with Asker(self._port) as asker:
            while not self._ended.is_set():
                self._numbers[number] += 1
                promise = Promise(uid=f"2.25.6{number:02d}{self._numbers[number]:07d}")
                self.promises.append(promise)
                for step in self._random.choice((FINISHED, FINISHED, GIVEN_UP, LEFT, WAITING)):
                    if not self._take(asker, promise, step):
                        break

    def _take(self, asker: Asker, promise: Promise, step: str) -> bool:
        promise.unsure = step
        try:
            status = _ask(asker, promise, step)
        except ConnectionRefusedError:
            promise.unsure = ""  # it was never sent
            self._ended.wait(0.01)
            return False
        except (OSError, http.client.HTTPException):
            return False
        promise.unsure = ""
        if status == 503:  # it is stopping, and has said that it did nothing
            return False
        if not 200 <= status < 300:
            self.refused.append(f"{promise.uid} {step}: {status} after {promise.done}")
            return False
        promise.done.append(step)
        return True


def _ask(asker: Asker, promise: Promise, step: str) -> int:
    uid, lock = promise.uid, promise.lock
    match step:
        case "create":
            return asker.create(uid, minimal(PatientID=uid[-8:]))
        case "claim":
            return asker.change_state(uid, "IN PROGRESS", lock)
        case "progress":
            changes = progress(ProcedureStepProgress="50", ProcedureStepProgressDescription=promise.note)
            return asker.update(uid, changes, lock)
        case "results":
            return asker.update(uid, performed(), lock)
        case "complete":
            return asker.change_state(uid, "COMPLETED", lock)
        case _:
            return asker.change_state(uid, "CANCELED", lock)
