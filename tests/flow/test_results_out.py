# SPDX-License-Identifier: Apache-2.0
"""A study from the scanner to a RIS, a folder and a webhook, with `airway serve` and receivers of others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pydicom
import pytest

from conformance.peers.process import wait_until
from tests.flow.airway import RunningAirway, is_delivered
from tests.flow.studies import make_study
from tests.receivers import WEBHOOK_KEY, WebhookReceiver, foreign_receiver, webhook_receiver

pytestmark = pytest.mark.peers

EVENTS = [
    "study.completed",
    "study.not_run",
    "workitem.scheduled",
    "workitem.in_progress",
    "workitem.completed",
    "result.stored",
    "delivery.done",
]


def told(hook: WebhookReceiver) -> list[dict[str, Any]]:
    return [orjson.loads(body) for _, _, body in hook.requests]


def names(hook: WebhookReceiver, study: str) -> list[str]:
    return [one["event"] for one in told(hook) if one["study"]["study_instance_uid"] == study]


def test_results_reach_a_ris_a_folder_and_a_webhook(tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    (tmp_path / "key").write_text(WEBHOOK_KEY)
    study = make_study(tmp_path / "ct", "OUT1", patient_name="Müller^Jörg")
    other = make_study(tmp_path / "mr", "OUT2")
    for path in other.files.values():  # a modality that no rule wants
        dataset = pydicom.dcmread(path)
        dataset.Modality = "MR"
        dataset.save_as(path)
    with foreign_receiver() as ris, webhook_receiver() as hook:
        config = {
            "destinations": [
                {"name": "ris", "kind": "hl7", "host": "127.0.0.1", "port": ris.port},
                {"name": "share", "kind": "folder", "path": str(share), "sources": "inputs"},
                {
                    "name": "hook",
                    "kind": "webhook",
                    "url": hook.url,
                    "reach": "any",
                    "secret_file": str(tmp_path / "key"),
                    "events": EVENTS,
                },
            ]
        }
        airway = RunningAirway(tmp_path, config)
        airway.start()
        try:
            assert "MSA|AA" in airway.send_order(study.order, "M1")
            assert airway.send_images(study.folder).succeeded
            airway.wait_story(study.study_instance_uid, is_delivered)
            assert airway.send_images(other.folder).succeeded
            wait_until(
                lambda: (
                    "study.not_run" in names(hook, other.study_instance_uid)
                    and names(hook, study.study_instance_uid).count("delivery.done") == 2
                ),
                "the webhook has heard of both studies",
                30,
            )
        finally:
            airway.stop()
    uid = study.study_instance_uid
    assert sorted(names(hook, uid)) == sorted(
        [
            "study.completed",
            "workitem.scheduled",
            "workitem.in_progress",
            "workitem.completed",
            "result.stored",
            "result.available",
            "delivery.done",
            "delivery.done",
        ]
    )
    assert names(hook, other.study_instance_uid) == ["study.completed", "study.not_run"]
    assert all(hook.signature_is_right(number) for number in range(len(hook.requests)))
    assert not any(b"ller" in body or study.patient_id.encode() in body for _, _, body in hook.requests)
    (message,) = ris.received
    assert str(message.segment("OBR")(18)) == study.accession_number
    assert str(message.segment("OBR")(25)) == "P"
    (available,) = (one for one in told(hook) if one["event"] == "result.available")
    index = orjson.loads((share / "complete" / f"{available['workitem']['uid']}.json").read_bytes())
    results = {one["sop_instance_uid"] for one in index["files"] if one["role"] == "result"}
    assert results == {one["sop_instance_uid"] for one in available["results"]}
    assert sum(one["role"] == "source" for one in index["files"]) == len(study.files)
    for one in index["files"]:
        content = (share / one["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
    sources = {str(segment(5)) for segment in message.segments("OBX") if str(segment(3)).startswith("111040")}
    assert sources < results
