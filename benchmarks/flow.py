# SPDX-License-Identifier: Apache-2.0
"""How long a study takes from its last image to results at every destination, by the times Airway records.

Airway runs as it is delivered, except for a shorter quiet period; one study at a time. Times come from the
story of the study and, for the parts of a run, from the performer's log.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, sample
from benchmarks.receiving import Receiver, by_storescu
from benchmarks.serving import ServedAirway, run_airway
from benchmarks.studies import EncodedStudy
from conformance.peers.emr import run_emr
from conformance.peers.fhir_server import FhirServer
from conformance.peers.orthanc import Orthanc
from conformance.peers.process import PeerFailedError
from informatics_gateway.hl7.sender import send_message
from profiles.codes import Code
from profiles.hl7.order_text import order_message
from profiles.order import Order, OrderControl

GROUP = "one study, door to door"
_STUDY_S = 300.0
_DISPATCH = "last image received to IN PROGRESS"
_DELIVERED = {
    "orthanc": "results stored to delivered: Orthanc, C-STORE",
    "orthanc-web": "results stored to delivered: Orthanc, STOW-RS",
    "emr": "results stored to delivered: stand-in EMR, FHIR",
}
_NAMES = (
    _DISPATCH,
    f"{_DISPATCH}, net of the quiet period",
    "IN PROGRESS to results stored",
    "  of which inputs fetched by WADO-RS",
    "  of which app: start, inference, encoding",
    "  of which results stored by STOW-RS",
    *_DELIVERED.values(),
    "last image to all delivered, net of the quiet period",
)


def measure_flow(
    study: EncodedStudy,
    copies: Iterator[int],
    orthanc: Orthanc,
    folder: Path,
    *,
    runs: int,
    quiet_period_s: float,
) -> list[Figure]:
    """Seconds of each leg of the way, for `runs` studies one after the other.

    Raises
    ------
    PeerFailedError
        If a study is not done within five minutes, or ends otherwise than delivered.
    """
    measured: dict[str, list[float]] = {name: [] for name in _NAMES}
    with run_emr() as emr, run_airway(folder / "flow", _config(orthanc, emr, quiet_period_s)) as airway:
        for _ in range(runs):
            story = _follow(study.copy(next(copies)), airway, folder)
            for name, seconds in _legs(story, airway, quiet_period_s).items():
                measured[name].append(seconds)
            orthanc.clear()
    return [
        Figure(group=GROUP, name=name, unit="s", airway=sample(seconds)) for name, seconds in measured.items()
    ]


def _config(orthanc: Orthanc, emr: FhirServer, quiet_period_s: float) -> dict[str, Any]:
    dicom = {"host": orthanc.host, "port": orthanc.dicom_port, "ae_title": orthanc.ae_title}
    return {
        "study": {"quiet_period_s": quiet_period_s},
        "destinations": [
            {"name": "orthanc", "kind": "dicom", **dicom},
            {"name": "orthanc-web", "kind": "dicomweb", "url": orthanc.dicom_web_url},
            {"name": "emr", "kind": "fhir", "url": emr.base_url},
        ],
    }


def _follow(study: EncodedStudy, airway: ServedAirway, folder: Path) -> dict[str, Any]:
    """Order and images in; the story once everything is delivered."""
    door = airway.dicom
    raw = order_message(_order(study), control_id=f"B{time.monotonic_ns()}"[:20], sent_at=datetime.now(UTC))
    send_message(airway.hl7.host, airway.hl7.port, raw)
    by_storescu(
        study,
        folder / "sent",
        Receiver(
            name="Airway",
            host=door.host,
            port=door.port,
            ae_title=door.ae_title,
            pid=airway.pid,
            instances=airway.instances,
        ),
    )
    story = airway.wait_story(study.study_instance_uid, _is_over, _STUDY_S)
    workitem = story["workitems"][0]
    if workitem["state"] != "COMPLETED" or any(job["state"] != "DONE" for job in workitem["deliveries"]):
        raise PeerFailedError(f"the study ended as {workitem['state']}: {workitem['reason']}")
    return story


def _order(study: EncodedStudy) -> Order:
    return Order(
        control=OrderControl.NEW,
        placer_order_number=f"PL-{study.study_instance_uid[-6:]}",
        filler_order_number=f"FI-{study.study_instance_uid[-6:]}",
        accession_number="BENCH-1",
        patient_id="PHANTOM-1",
        patient_name="Phantom^Chest",
        patient_birth_date="19700101",
        patient_sex="O",
        requested_procedure_id="RP-1",
        requested_procedure_description="CT chest",
        requested_procedure_code=Code("24627-2", "LN", "CT Chest"),
        study_instance_uid=study.study_instance_uid,
    )


def _is_over(story: Mapping[str, Any]) -> bool:
    """Whether nothing more will come: canceled, or every delivery done or held for a person."""
    workitem = next(iter(story["workitems"]), None)
    if workitem is None:
        return False
    if workitem["state"] == "CANCELED":
        return True
    ended = all(job["state"] in ("DONE", "HELD") for job in workitem["deliveries"])
    return bool(workitem["state"] == "COMPLETED" and workitem["deliveries"] and ended)


def _legs(story: Mapping[str, Any], airway: ServedAirway, quiet_period_s: float) -> dict[str, float]:
    workitem = story["workitems"][0]
    states = {state["state"]: _time(state["at"]) for state in workitem["states"]}
    received, stored = _time(story["last_received_at"]), states["COMPLETED"]
    claimed = states["IN PROGRESS"]
    told: dict[str, float] = {}
    for record in airway.log_records():
        if record.get("workitem") == workitem["uid"] and "action" in record and "time" in record:
            told[record["action"]] = _time(record["time"])  # of several results the last
    delivered = {job["lane"].partition("/")[2]: _time(job["done_at"]) for job in workitem["deliveries"]}
    seconds = (
        claimed - received,
        claimed - received - quiet_period_s,
        stored - claimed,
        told["performer.inputs_fetched"] - told["performer.claimed"],
        told["performer.inference_finished"] - told["performer.inference_started"],
        told["performer.result_stored"] - told["performer.inference_finished"],
        *(delivered[name] - stored for name in _DELIVERED),
        max(delivered.values()) - received - quiet_period_s,
    )
    return dict(zip(_NAMES, seconds, strict=True))


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
