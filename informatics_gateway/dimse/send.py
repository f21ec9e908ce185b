# SPDX-License-Identifier: Apache-2.0
"""Sends a folder of DICOM files to a peer, as a modality would: for ``airway send`` and the demonstration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.store_scu import FileToSend, store_files
from task_manager.outcome import Refused
from task_manager.study.header import read_header

_MAX_CONTEXTS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSummary:
    """What was sent: how many instances of which studies, and the files that are no DICOM instances."""

    sent: int
    study_instance_uids: tuple[str, ...]
    skipped: tuple[Path, ...]


def send_folder(
    paths: Iterable[Path],
    *,
    host: str,
    port: int,
    called_ae_title: str = "AIRWAY",
    calling_ae_title: str = "AIRWAY_SEND",
    progress: Callable[[int, int], None] = lambda sent, total: None,
    timeout_s: float = 60.0,
) -> SendSummary:
    """C-STORE every DICOM instance under `paths` (files or folders), in the order of their names.

    Parameters
    ----------
    progress
        Called with instances sent and instances in all.

    Raises
    ------
    RetryableDeliveryError, FinalDeliveryError
        If the peer does not take them; see :func:`informatics_gateway.dimse.store_scu.store_files`.
    """
    files: list[FileToSend] = []
    skipped: list[Path] = []
    studies: dict[str, None] = {}
    for path in _files(paths):
        header = read_header(path)
        if isinstance(header, Refused):
            skipped.append(path)
            continue
        studies[header.study_instance_uid] = None
        files.append(
            FileToSend(
                path=path,
                sop_class_uid=header.sop_class_uid,
                transfer_syntax_uid=header.transfer_syntax_uid,
            )
        )
    sent = 0

    def count(_: FileToSend) -> None:
        nonlocal sent
        sent += 1
        progress(sent, len(files))

    address = DicomAddress(
        host=host, port=port, called_ae_title=called_ae_title, calling_ae_title=calling_ae_title
    )
    for batch in _batches(files):
        store_files(batch, address, timeout_s=timeout_s, stored=count)
    return SendSummary(sent=sent, study_instance_uids=tuple(studies), skipped=tuple(skipped))


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(found for found in path.rglob("*") if found.is_file())
        else:
            yield path


def _batches(files: Sequence[FileToSend]) -> Iterator[list[FileToSend]]:
    """Runs of files that need no more presentation contexts than one association has."""
    batch: list[FileToSend] = []
    contexts: set[tuple[str, str]] = set()
    for file in files:
        context = (file.sop_class_uid, file.transfer_syntax_uid)
        if context not in contexts and len(contexts) == _MAX_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(file)
        contexts.add(context)
    if batch:
        yield batch
