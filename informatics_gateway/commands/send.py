# SPDX-License-Identifier: Apache-2.0
"""`airway send`: C-STORE a folder, as a modality would."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from informatics_gateway.commands.console import OUT, endpoint, fail
from informatics_gateway.dimse.send import send_folder
from task_manager.errors import DeliveryError


def send(paths: list[Path], *, to: str, called: str, calling: str) -> None:
    """Send every DICOM instance under `paths` and say what to do next."""
    try:
        host, port = endpoint(to, "127.0.0.1", 11112)
    except ValueError as error:
        fail(str(error))
    with Progress(console=OUT, transient=True) as bar:
        task = bar.add_task("sending", total=None)
        try:
            summary = send_folder(
                paths,
                host=host,
                port=port,
                called_ae_title=called,
                calling_ae_title=calling,
                progress=lambda sent, total: bar.update(task, completed=sent, total=total),
            )
        except DeliveryError as error:
            fail(f"{host}:{port} did not take the images: {error}", status=1)
    OUT.print(f"{summary.sent} instances sent to {called} at {host}:{port}")
    for path in summary.skipped:
        OUT.print(f"  not DICOM, skipped: {path}", markup=False)
    for uid in summary.study_instance_uids:
        OUT.print(f"Next: airway explain {uid}")
