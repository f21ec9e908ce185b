# SPDX-License-Identifier: Apache-2.0
"""The other studies of a patient, here and at the archives, as candidates for priors.

Who a study is of is decided by its patient id and issuer after all merges. What archives answer about other
patients is left out before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from profiles.dicom_json import text
from profiles.uids import is_uid
from task_manager.errors import DeliveryError
from task_manager.fetching.archives import Archives, RemoteStudy, StudyArchive, StudyQuestion
from task_manager.fetching.model import is_literal
from task_manager.rules.model import PriorRequirement, Verdict
from task_manager.rules.prior_selection import HERE, PriorCandidate, PriorSubject
from task_manager.store import fetches, identities, priors
from task_manager.store.database import Connection, Database
from task_manager.study.model import Study

_MOST_LOOKED_INTO = 30
"""Studies of an archive whose series are asked for, the newest first."""

_SLOW = timedelta(seconds=2)
_LEFT_FOR = timedelta(seconds=45)
"""An archive that let us wait in vain is not asked for a while: other rules wait for the same thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientKey:
    """A patient as images name one."""

    patient_id: str
    issuer: str


@dataclass(slots=True, kw_only=True)
class Found:
    """What a search found.

    Attributes
    ----------
    instances
        How many instances the archives name, by Study Instance UID; 0 where none tells.
    notes
        Archives that did not answer.
    """

    subject: PriorSubject
    candidates: list[PriorCandidate] = field(default_factory=list)
    instances: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def same_patient(one: PatientKey, other: PatientKey, *, is_shared: bool) -> tuple[Verdict, str]:
    """Whether two current identities are the same patient, and why; pure.

    Parameters
    ----------
    is_shared
        Whether several issuers use this patient id, as far as is known.
    """
    if not one.patient_id or not other.patient_id:
        return Verdict.UNKNOWN, "a patient id is missing"
    if one.patient_id != other.patient_id:
        return Verdict.FALSE, "another patient id"
    if one.issuer and other.issuer:
        return (
            (Verdict.TRUE, "same id and issuer")
            if one.issuer == other.issuer
            else (Verdict.FALSE, "same id of another issuer")
        )
    if is_shared:
        return Verdict.UNKNOWN, "same id, but an issuer is not told and several use this id"
    return Verdict.TRUE, "same id"


class PriorSearch:
    """Looks for the other studies of a patient.

    Parameters
    ----------
    archives
        By name, in the order they are asked.
    most_studies
        Answers of one archive that are looked at.
    """

    def __init__(
        self, database: Database, archives: Archives, *, most_studies: int, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._clock = clock
        self._left: dict[str, tuple[datetime, str]] = {}
        self._archives = archives
        self._most_studies = most_studies

    def search(self, study: Study, wanted: Sequence[PriorRequirement]) -> Found:
        """Candidates for all priors of a rule. Archives are asked outside any transaction.

        Raises
        ------
        StoreError
            If the database fails.
        """
        own = PatientKey(
            patient_id=text(study.attributes, "PatientID"), issuer=text(study.attributes, "IssuerOfPatientID")
        )
        made = text(study.attributes, "StudyDate") or study.first_received_at.strftime("%Y%m%d")
        subject = PriorSubject(
            study_instance_uid=study.study_instance_uid,
            study_date=made,
            modalities=priors.modalities_of(study.series),
            body_parts=priors.body_parts_of(study.series),
        )
        found = Found(subject=subject)
        if not own.patient_id:
            found.notes.append("the study names no patient")
            return found
        with self._database.read() as connection:
            ids = priors.known_ids(connection, own.patient_id, own.issuer)
            here = self._here(connection, own, ids)
        remote: dict[str, PriorCandidate] = {}
        for archive in self._asked(wanted):
            began = self._clock()
            until, why = self._left.get(archive.name, (began, ""))
            if began < until:
                found.notes.append(why)
                continue
            try:
                for candidate, number in self._at(archive, own, ids, wanted):
                    uid = candidate.study_instance_uid
                    known = remote.get(uid)
                    remote[uid] = _joined(known, candidate) if known else candidate
                    found.instances[uid] = max(number, found.instances.get(uid, 0))
            except DeliveryError as error:
                found.notes.append(f"{archive.name} does not answer: {error}")
                now = self._clock()
                if now - began > _SLOW:
                    self._left[archive.name] = (now + _LEFT_FOR, found.notes[-1])
        for uid in dict.fromkeys((*here, *remote)):
            mine, theirs = here.get(uid), remote.get(uid)
            joined = _joined(mine, theirs) if mine and theirs else mine or theirs
            assert joined is not None
            found.candidates.append(joined)
        return found

    def held(self, uids: Sequence[str]) -> dict[str, int]:
        """How many instances of each study are here."""
        with self._database.read() as connection:
            return fetches.count_held(connection, list(uids))

    def _asked(self, wanted: Sequence[PriorRequirement]) -> list[StudyArchive]:
        """The archives that one of the priors may come from."""
        everywhere = any(not one.archives for one in wanted)
        named = {name for one in wanted for name in one.archives}
        return [one for name, one in self._archives.items() if everywhere or name in named]

    def _here(self, connection: Connection, own: PatientKey, ids: Sequence[str]) -> dict[str, PriorCandidate]:
        found = {}
        for uid, attributes, series in priors.studies_of_patient_ids(connection, ids):
            theirs = PatientKey(
                patient_id=text(attributes, "PatientID"), issuer=text(attributes, "IssuerOfPatientID")
            )
            verdict, note = self._judged(connection, own, theirs)
            if verdict is Verdict.FALSE:
                continue
            found[uid] = PriorCandidate(
                study_instance_uid=uid,
                same_patient=verdict,
                patient_note=note,
                study_date=text(attributes, "StudyDate"),
                modalities=priors.modalities_of(series),
                body_parts=priors.body_parts_of(series),
                description=text(attributes, "StudyDescription"),
                places=(HERE,) if series else (),
            )
        return found

    def _at(
        self, archive: StudyArchive, own: PatientKey, ids: Sequence[str], wanted: Sequence[PriorRequirement]
    ) -> list[tuple[PriorCandidate, int]]:
        answers: dict[str, RemoteStudy] = {}
        for patient_id in filter(is_literal, ids):  # images may name anything, a wildcard too
            question = StudyQuestion(patient_id=patient_id)
            for answer in archive.find_studies(question, limit=self._most_studies):
                if is_uid(answer.study_instance_uid) and answer.patient_id.strip() in ids:
                    answers.setdefault(answer.study_instance_uid, answer)
        found: list[tuple[PriorCandidate, int]] = []
        with self._database.read() as connection:
            for uid, answer in answers.items():
                theirs = PatientKey(patient_id=answer.patient_id.strip(), issuer=answer.issuer.strip())
                verdict, note = self._judged(connection, own, theirs)
                if verdict is not Verdict.FALSE:
                    found.append((_candidate(uid, answer, verdict, note), answer.instances))
        if not any(one.body_part for one in wanted):
            return found
        found.sort(key=lambda one: one[0].study_date, reverse=True)
        looked = [
            (self._with_body_parts(archive, candidate), number)
            for candidate, number in found[:_MOST_LOOKED_INTO]
        ]
        return [*looked, *found[_MOST_LOOKED_INTO:]]

    def _with_body_parts(self, archive: StudyArchive, candidate: PriorCandidate) -> PriorCandidate:
        series = archive.find_series(candidate.study_instance_uid)
        return replace(candidate, body_parts=tuple(sorted({one.body_part for one in series} - {""})))

    def _judged(self, connection: Connection, own: PatientKey, theirs: PatientKey) -> tuple[Verdict, str]:
        current = identities.current_identity(connection, theirs.patient_id, theirs.issuer)
        if current is not None:
            merged = current.patient_id != theirs.patient_id
            theirs = PatientKey(
                patient_id=current.patient_id,
                issuer=current.issuer if merged else theirs.issuer or current.issuer,
            )
        shared = identities.is_shared_id(connection, own.patient_id, own.issuer or theirs.issuer)
        return same_patient(own, theirs, is_shared=shared)


def _candidate(uid: str, answer: RemoteStudy, verdict: Verdict, note: str) -> PriorCandidate:
    return PriorCandidate(
        study_instance_uid=uid,
        same_patient=verdict,
        patient_note=note,
        study_date=answer.study_date,
        modalities=answer.modalities,
        description=answer.description,
        places=(answer.archive,),
    )


def _joined(one: PriorCandidate, other: PriorCandidate) -> PriorCandidate:
    """One study at two places: what the first does not tell is the second's; a doubt of either stays."""
    doubtful = next((each for each in (one, other) if each.same_patient is not Verdict.TRUE), one)
    return replace(
        one,
        same_patient=doubtful.same_patient,
        patient_note=doubtful.patient_note,
        study_date=one.study_date or other.study_date,
        modalities=tuple(sorted({*one.modalities, *other.modalities})),
        body_parts=tuple(sorted({*one.body_parts, *other.body_parts})),
        description=one.description or other.description,
        places=tuple(dict.fromkeys((*one.places, *other.places))),
    )
