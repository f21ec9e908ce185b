# SPDX-License-Identifier: Apache-2.0
"""An archive in memory, with faults on demand, and the steps of a worker without threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from profiles.dicom_json import text
from task_manager.actor import Actor
from task_manager.errors import DeliveryError, RetryableDeliveryError
from task_manager.fetching.archives import Piece, Receiver, RemoteSeries, RemoteStudy, StudyQuestion
from task_manager.outbox import PRIORS_LANE, Job, fetch_lane
from task_manager.study.header import header_from_start
from task_manager.study.model import InstanceHeader
from tests.service import TestBed

LEASE = timedelta(minutes=10)


@dataclass
class MemoryArchive:
    """Implements :class:`task_manager.fetching.archives.StudyArchive` over files.

    `down` is raised at every question; `hook` is called before each instance is handed over; `extra` are
    files that are handed over although nobody asked; `hidden` are instances that are named and never come.
    """

    name: str = "pacs"
    files: list[bytes] = field(default_factory=list)
    most_at_once: int = 2
    issuer: str = ""
    down: DeliveryError | None = None
    hook: Callable[[str], None] = lambda uid: None
    extra: list[bytes] = field(default_factory=list)
    hidden: frozenset[str] = frozenset()
    before_answer: Callable[[], None] = lambda: None
    sent: list[str] = field(default_factory=list)
    asked: list[StudyQuestion] = field(default_factory=list)

    @property
    def actor(self) -> Actor:
        return Actor(door="dicom", name=self.name.upper(), called="AIRWAY")

    def find_studies(self, question: StudyQuestion, *, limit: int) -> Sequence[RemoteStudy]:
        self._answer()
        self.asked.append(question)
        found: dict[str, list[InstanceHeader]] = {}
        for header, _ in self._headers():
            if _matches(question, header):
                found.setdefault(header.study_instance_uid, []).append(header)
        return [self._study(uid, headers) for uid, headers in found.items()][:limit]

    def find_series(self, study_instance_uid: str) -> Sequence[RemoteSeries]:
        return [
            RemoteSeries(series_instance_uid=one.series_instance_uid, body_part=one.body_part)
            for one in self.find_instances(study_instance_uid, limit=10**6)
        ]

    def find_instances(self, study_instance_uid: str, *, limit: int) -> Sequence[RemoteSeries]:
        self._answer()
        series: dict[str, dict[str, str]] = {}
        parts: dict[str, str] = {}
        for header, _ in self._headers():
            if header.study_instance_uid == study_instance_uid:
                uid = header.series_instance_uid
                series.setdefault(uid, {})[header.sop_instance_uid] = header.sop_class_uid
                parts[uid] = text(header.attributes, "BodyPartExamined")
        if sum(len(one) for one in series.values()) > limit:
            raise RetryableDeliveryError("too many")
        return [
            RemoteSeries(series_instance_uid=uid, body_part=parts[uid], instances=instances)
            for uid, instances in series.items()
        ]

    def retrieve(self, piece: Piece, receiver: Receiver) -> None:
        self._answer()
        wanted = [
            (header.sop_instance_uid, content)
            for header, content in self._headers()
            if header.series_instance_uid == piece.series_instance_uid
            and header.sop_instance_uid in piece.instances
            and header.sop_instance_uid not in self.hidden
        ]
        for uid, content in [*(("", one) for one in self.extra), *wanted]:
            self.hook(uid)
            staged = receiver.stage()
            staged.write(content)
            receiver.receive(staged)
            self.sent.append(uid)

    def close(self) -> None:
        return

    def _answer(self) -> None:
        self.before_answer()
        if self.down is not None:
            raise self.down

    def _headers(self) -> Iterator[tuple[InstanceHeader, bytes]]:
        for content in self.files:
            header = header_from_start(content, len(content))
            assert isinstance(header, InstanceHeader)
            yield header, content

    def _study(self, uid: str, headers: Sequence[InstanceHeader]) -> RemoteStudy:
        first = headers[0].attributes
        return RemoteStudy(
            archive=self.name,
            study_instance_uid=uid,
            patient_id=text(first, "PatientID"),
            issuer=text(first, "IssuerOfPatientID") or self.issuer,
            accession_number=text(first, "AccessionNumber"),
            study_date=text(first, "StudyDate"),
            modalities=tuple(sorted({text(one.attributes, "Modality") for one in headers})),
            description=text(first, "StudyDescription"),
            instances=len(headers),
        )


def _matches(question: StudyQuestion, header: InstanceHeader) -> bool:
    asked: Mapping[str, str] = {
        "StudyInstanceUID": question.study_instance_uid,
        "AccessionNumber": question.accession_number,
        "PatientID": question.patient_id,
    }
    return all(not value or text(header.attributes, keyword) == value for keyword, value in asked.items())


def next_job(bed: TestBed, lane: str) -> Job | None:
    """Claim what is due in a lane."""
    return bed.service.claim_job(lane, worker="test#0", lease=LEASE)


def work(bed: TestBed, *, rounds: int = 50) -> int:
    """Do all that is due, as the worker would; how many jobs."""
    done = 0
    lanes = [fetch_lane(name) for name in bed.service.fetching.archives]
    for _ in range(rounds):
        did = bed.service.scheduler.complete_due_studies()
        for lane in lanes:
            job = next_job(bed, lane)
            if job is not None:
                bed.service.fetching.perform(job, lambda: False)
                did += 1
                done += 1
        job = next_job(bed, PRIORS_LANE)
        if job is not None:
            bed.service.priors.perform(job)
            did += 1
            done += 1
        if not did:
            return done
    raise AssertionError("the work does not end")
