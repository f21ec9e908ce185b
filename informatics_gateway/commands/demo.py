# SPDX-License-Identifier: Apache-2.0
"""`airway demo`: the whole path on this machine, told as it happens, and checked at its far end."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pydicom import dcmread
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from informatics_gateway.commands.console import OUT, fail, program
from informatics_gateway.demo.picture import write_overlay
from informatics_gateway.demo.readback import Check, Results, check, fetch_results
from informatics_gateway.demo.scenario import (
    DemoStudy,
    demo_order,
    make_phantom,
    own_study,
    send_order,
    send_study,
)
from informatics_gateway.demo.system import DemoAddresses, DemoSystem
from profiles.air.read import ReportError
from profiles.faults import Fault
from task_manager.errors import AirwayError, InputError
from task_manager.rules.explain import from_json, render

_LIMIT_S = 180.0
_FINAL = ("COMPLETED", "CANCELED")


def run_demo(*, study: Path | None, keep: bool, output: Path) -> int:
    """Run the demonstration; 0 only if every check on the results read back passed."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _leave)
    work = Path(tempfile.mkdtemp(prefix="airway-demo-"))
    system = DemoSystem(work)
    try:
        demo_study = own_study(study) if study else make_phantom(work / "phantom")
        with system as addresses:
            story = _drive(demo_study, addresses)
            _tell(story)
            _require_results(story)
            good = _read_back(demo_study, addresses, system, output)
            took = time.monotonic() - began
            OUT.print(f"\n{'All checks passed' if good else 'SOME CHECKS FAILED'} in {took:.0f} s. Look at:")
            for path in sorted(output.rglob("*")):
                if path.is_file():
                    OUT.print(f"  {path}", markup=False)
            if keep:
                _keep(addresses, system, work)
    except (AirwayError, ReportError) as error:
        shutil.copytree(
            work, output / "failed-run", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.lock")
        )
        faults = [str(fault) for fault in error.faults] if isinstance(error, InputError) else [str(error)]
        fail("The demonstration failed:", *faults, f"logs are in {output / 'failed-run'}", status=1)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0 if good else 1


def _leave(number: int, _: object) -> None:
    """End by way of every ``finally``, so that no process of the demonstration is left behind."""
    sys.exit(128 + number)


def _drive(study: DemoStudy, addresses: DemoAddresses) -> dict[str, Any]:
    """Send order and study, watch until everything is delivered; the story as the API tells it."""
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=OUT) as bar:
        order_step = bar.add_task("HL7 order over MLLP", total=1, note="")
        code = send_order(demo_order(study), addresses, datetime.now(UTC))
        bar.update(order_step, completed=1, note=f"answered {code}")
        images = bar.add_task("CT over C-STORE", total=len(study.paths), note="")

        def sent(count: int, total: int) -> None:
            bar.update(images, completed=count, total=total, note=f"{count} of {total} instances")

        send_study(study, addresses, sent)
        return _watch(study, addresses, bar)


def _watch(study: DemoStudy, addresses: DemoAddresses, bar: Progress) -> dict[str, Any]:
    steps: dict[str, TaskID] = {}

    def step(name: str, completed: float, total: float, note: str) -> None:
        if name not in steps:
            steps[name] = bar.add_task(name, total=total, note=note)
        bar.update(steps[name], completed=completed, total=total, note=note)

    deadline = time.monotonic() + _LIMIT_S
    url = f"{addresses.airway['http']}/api/studies/{study.study_instance_uid}"
    story: dict[str, Any] = {}
    pause = threading.Event()
    while time.monotonic() < deadline:
        answer = httpx.get(url, timeout=10)
        if answer.status_code == 200:
            story = answer.json()
            if _show(story, step):
                return story
        pause.wait(0.2)
    raise InputError(Fault(study.study_instance_uid, f"was not finished within {_LIMIT_S:.0f} s"))


def _show(story: dict[str, Any], step: Callable[[str, float, float, str], None]) -> bool:
    """Show how far the study is; whether there is nothing more to wait for."""
    complete = story["state"] == "COMPLETE"
    step("study complete", complete, 1, story["evidence"] or "waiting for the quiet period")
    if not complete:
        return False
    if not story["workitems"]:
        return True
    workitem = story["workitems"][-1]
    percent = 100.0 if workitem["state"] == "COMPLETED" else float(workitem["progress"] or 0)
    step("AI app", percent, 100, workitem["state"])
    deliveries = workitem["deliveries"]
    done = sum(delivery["state"] == "DONE" for delivery in deliveries)
    if workitem["state"] == "COMPLETED":
        step("deliveries", done, len(deliveries) or 1, f"{done} of {len(deliveries)}")
    settled = all(delivery["state"] in ("DONE", "HELD") for delivery in deliveries)
    return workitem["state"] in _FINAL and settled


def _tell(story: dict[str, Any]) -> None:
    """Print what happened, from order to delivery."""
    OUT.rule("Order")
    order = story["order"]
    if order:
        OUT.print(
            f"received {_clock(order['received_at'])}: {order['order_number']}, accession "
            f"{order['accession_number']}, {order['requested_procedure']}, priority {order['priority']}",
            markup=False,
        )
    OUT.rule("Study")
    results = sum(len(workitem["outputs"]) for workitem in story["workitems"])
    images = sum(series["instances"] for series in story["series"]) - results
    OUT.print(
        f"complete {_clock(story['completed_at'])} by {story['evidence']} "
        f"({images} instances, last one {_clock(story['last_received_at'])})",
        markup=False,
    )
    OUT.rule("Rules")
    explained = [
        explanation for explanation in story["explanations"] if explanation["revision"] == story["revision"]
    ]
    OUT.print(render([from_json(json.dumps(one)) for one in explained]), markup=False)
    OUT.rule("Workitems")
    for workitem in story["workitems"]:
        OUT.print(f"{workitem['label']} {workitem['uid']}", markup=False)
        for state in workitem["states"]:
            OUT.print(
                f"  {_clock(state['at'])} {state['state']:<12} by {state['by'] or 'AIRWAY'}", markup=False
            )
        if workitem["reason"]:
            OUT.print(f"  reason: {workitem['reason']}", markup=False)
        for output in workitem["outputs"]:
            OUT.print(f"  stored {output['size']:>8} bytes  {output['sop_instance_uid']}", markup=False)
    OUT.rule("Deliveries")
    for workitem in story["workitems"]:
        for delivery in workitem["deliveries"]:
            done = _clock(delivery["done_at"]) if delivery["done_at"] else "not done"
            told = delivery["summary"] or delivery["last_error"]
            OUT.print(f"  {done} {delivery['lane']:<22} {delivery['state']} {told}", markup=False)
    OUT.rule("Events (SOLE)")
    for event in story["events"]:
        where = f" to {event['destination']}" if event["destination"] else ""
        OUT.print(f"  {_clock(event['occurred_at'])} {event['code']} {event['name']}{where}", markup=False)


def _require_results(story: dict[str, Any]) -> None:
    """Stop here where there is nothing to read back.

    Raises
    ------
    InputError
        With what the person can do.
    """
    if not story["workitems"]:
        hint = "no workitem was created: the rules above say why"
        raise InputError(Fault(story["study_instance_uid"], hint))
    workitem = story["workitems"][-1]
    if workitem["state"] != "COMPLETED":
        raise InputError(Fault(workitem["uid"], f"is {workitem['state']}: {workitem['reason']}"))
    held = [one["lane"] for one in workitem["deliveries"] if one["state"] != "DONE"]
    if held:
        raise InputError(Fault(workitem["uid"], f"was not delivered to {', '.join(held)}"))


def _read_back(study: DemoStudy, addresses: DemoAddresses, system: DemoSystem, output: Path) -> bool:
    """Fetch, check and keep the results; whether every check passed."""
    OUT.rule("Read back from archive and EMR")
    results = fetch_results(study, addresses.archive_web, addresses.emr)
    checks = check(study, results)
    for one in checks:
        OUT.print(f"  {'ok  ' if one.good else 'FAIL'} {one.what}: {one.seen}", markup=False)
    _keep_results(study, results, checks, system, output)
    return all(one.good for one in checks)


def _keep_results(
    study: DemoStudy, results: Results, checks: list[Check], system: DemoSystem, output: Path
) -> None:
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    results.segmentation.save_as(output / "segmentation.dcm", enforce_file_format=True)
    results.report.save_as(output / "report.dcm", enforce_file_format=True)
    (output / "fhir-bundle.json").write_text(
        json.dumps(results.bundle, indent=2, ensure_ascii=False), "utf-8"
    )
    (output / "checks.json").write_text(
        json.dumps([{"what": one.what, "good": one.good, "seen": one.seen} for one in checks], indent=2),
        "utf-8",
    )
    shutil.copyfile(system.events_log, output / "events.log")
    labels = {
        int(segment.SegmentNumber): str(segment.SegmentLabel)
        for segment in results.segmentation.SegmentSequence
    }
    single = {number: label for number, label in labels.items() if label != "Lungs"} or labels
    analysed = {str(source.SOPInstanceUID): source for source in results.sources}
    paths = [path for path in study.paths if _uid_of(path) in analysed]
    write_overlay(results.segmentation, paths, single, output / "overlay.png")


def _keep(addresses: DemoAddresses, system: DemoSystem, work: Path) -> None:
    """Leave everything running until Ctrl-C or SIGTERM."""
    dicom = addresses.airway["dicom"]
    OUT.rule("Kept running")
    OUT.print(
        "Send a CT of your own to it:\n"
        f"  storescu -aec {dicom['ae_title']} +sd +r {dicom['host']} {dicom['port']} FOLDER\n"
        f"and ask what became of it:\n  {program()} explain STUDY_UID --data {work / 'data'}\n"
        f"HTTP {addresses.airway['http']} (API at /api/docs)\n"
        f"archive {addresses.archive_web}, EMR {addresses.emr}\n"
        f"log {system.airway_log}. Stop with Ctrl-C.",
        markup=False,
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        stop.wait()
    except KeyboardInterrupt:
        OUT.print("stopping")


def _uid_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def _clock(at: str) -> str:
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S.%f")[:-3]
