# SPDX-License-Identifier: Apache-2.0
"""`airway send`: HL7 orders over MLLP as a RIS would, then images by C-STORE as a modality would."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from informatics_gateway.commands.console import OUT, endpoint, fail, program
from informatics_gateway.dimse.send import send_folder
from informatics_gateway.hl7.sender import send_message
from profiles.hl7.message import Unreadable, read_message
from task_manager.errors import DeliveryError, InputError

_ORDER_LIMIT_BYTES = 4 << 20
_POSITIVE = ("AA", "CA")


def send(paths: Sequence[Path], *, to: str, hl7: str, called: str, calling: str) -> None:
    """Send files that begin with an MSH segment as orders, all else as images, and say what to do next.

    Exit status 2 if a path is not there, 1 if something was not taken or there was nothing to send.
    """
    try:
        dicom_door, hl7_door = endpoint(to, "127.0.0.1", 11112), endpoint(hl7, "127.0.0.1", 2575)
    except ValueError as error:
        fail(str(error))
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        fail("There is no such file or folder:", *missing)
    orders = [path for path in paths if path.is_file() and _is_order(path)]
    for path in orders:
        for raw in _messages(path.read_bytes()):
            _send_order(path, raw, *hl7_door)
    images = [path for path in paths if path not in orders]
    if images:
        _send_images(images, *dicom_door, called=called, calling=calling)


def _is_order(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16).lstrip(b"\x0b\xef\xbb\xbf\r\n \t").startswith(b"MSH")


def _messages(content: bytes) -> list[bytes]:
    """The messages of a file, with CR between segments and without MLLP frames."""
    if len(content) > _ORDER_LIMIT_BYTES:
        fail(f"An order file holds at most {_ORDER_LIMIT_BYTES >> 20} MiB.")
    plain = content.removeprefix(b"\xef\xbb\xbf").translate(None, b"\x0b\x1c")
    segments = re.sub(rb"[\r\n]+", rb"\r", plain.strip() + b"\r")
    return [message for message in re.split(rb"(?<=\r)(?=MSH)", segments) if message.strip()]


def _send_order(path: Path, raw: bytes, host: str, port: int) -> None:
    try:
        answer = read_message(send_message(host, port, raw))
    except (DeliveryError, InputError) as error:
        fail(f"{host}:{port} did not take {path.name}: {error}", status=1)
    if isinstance(answer, Unreadable):
        fail(f"{host}:{port} answered {path.name} with what is no HL7 message", status=1)
    segments = {name: [one for one in answer.segments if one.name == name] for name in ("MSA", "ERR")}
    code = segments["MSA"][0].text(1) if segments["MSA"] else "no code"
    if code not in _POSITIVE:
        # ERR-2 and ERR-8 since version 2.5; before it, the text of MSA-3.
        told = [f"{one.text(2)}-{one.text(2, 3)}: {one.text(8)}" for one in segments["ERR"] if one.text(8)]
        told = told or [one.text(3) for one in segments["MSA"]]
        fail(f"{path.name} was answered {code}:", *told, status=1)
    OUT.print(f"{path.name} was answered {code} by {host}:{port}", markup=False)


def _send_images(paths: Sequence[Path], host: str, port: int, *, called: str, calling: str) -> None:
    with Progress(console=OUT, transient=True) as bar:
        task = bar.add_task("sending", total=None)

        def told(sent: int, total: int) -> None:
            bar.update(task, completed=sent, total=total)

        try:
            summary = send_folder(
                paths, host=host, port=port, called_ae_title=called, calling_ae_title=calling, progress=told
            )
        except DeliveryError as error:
            fail(f"{host}:{port} did not take the images: {error}", status=1)
    skipped = [f"not DICOM, skipped: {path}" for path in summary.skipped]
    if not summary.sent:
        fail("There was no DICOM instance to send.", *skipped, status=1)
    OUT.print(f"{summary.sent} instances sent to {called} at {host}:{port}", markup=False)
    for line in skipped:
        OUT.print(f"  {line}", markup=False)
    for uid in summary.study_instance_uids:
        OUT.print(f"Next: {program()} explain {uid}", markup=False)
