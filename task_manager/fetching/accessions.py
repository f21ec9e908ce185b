# SPDX-License-Identifier: Apache-2.0
"""Which studies of an archive's answer have an accession number, and of how many patients they are.

An archive that does not know a key answers as if it had not been given: nothing of that may be believed.
"""

from __future__ import annotations

from collections.abc import Sequence

from profiles.uids import is_uid
from task_manager.fetching.archives import RemoteStudy
from task_manager.fetching.model import FetchTarget
from task_manager.store.database import Connection
from task_manager.store.identities import current_identity, same_issuer


def exact_matches(found: Sequence[RemoteStudy], target: FetchTarget) -> tuple[RemoteStudy, ...]:
    """Those that are what was asked for, each once."""
    matching = {
        study.study_instance_uid: study
        for study in found
        if is_uid(study.study_instance_uid)
        and study.accession_number.strip() == target.accession_number.strip()
        and (not target.patient_id or study.patient_id.strip() == target.patient_id.strip())
    }
    return tuple(matching[uid] for uid in sorted(matching))


def distinct_patients(connection: Connection, found: Sequence[RemoteStudy]) -> int:
    """How many patients the studies are of, merged ones counted once."""
    patients: list[tuple[str, str]] = []
    for study in found:
        current = current_identity(connection, study.patient_id, study.issuer)
        one = (current.patient_id, current.issuer) if current else (study.patient_id, study.issuer)
        if not any(one[0] == other[0] and same_issuer(one[1], other[1]) for other in patients):
            patients.append(one)
    return len(patients)
