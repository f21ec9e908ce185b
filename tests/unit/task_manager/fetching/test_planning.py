# SPDX-License-Identifier: Apache-2.0
"""What of a study is missing, by series and by instance."""

from __future__ import annotations

import pytest

from task_manager.fetching.archives import RemoteSeries
from task_manager.fetching.model import FetchTarget
from task_manager.fetching.planning import missing_pieces, named_instances

CT = "1.2.840.10008.5.1.4.1.1.2"


def series(uid: str, *numbers: int) -> RemoteSeries:
    return RemoteSeries(series_instance_uid=uid, instances={f"{uid}.{number}": CT for number in numbers})


@pytest.mark.parametrize(
    ("remote", "held", "expected"),
    [
        ([], [], []),
        ([series("1.1", 1, 2)], [], [("1.1", ["1.1.1", "1.1.2"], True)]),
        ([series("1.1", 1, 2)], ["1.1.1", "1.1.2"], []),
        ([series("1.1", 1, 2)], ["1.1.1"], [("1.1", ["1.1.2"], False)]),
        (
            [series("1.1", 1), series("1.2", 1)],
            ["1.1.1"],
            [("1.2", ["1.2.1"], True)],
        ),
        (
            [series("1.1", 1), RemoteSeries(series_instance_uid="1.2", instances={"1.1.1": CT, "1.2.1": CT})],
            [],
            [("1.1", ["1.1.1"], True), ("1.2", ["1.2.1"], False)],
        ),
        ([RemoteSeries(series_instance_uid="1.1")], [], []),
    ],
    ids=["nothing", "all", "none", "a part", "another series", "named twice", "an empty series"],
)
def test_what_is_missing(
    remote: list[RemoteSeries], held: list[str], expected: list[tuple[str, list[str], bool]]
) -> None:
    pieces = missing_pieces("1", remote, held)
    assert [(one.series_instance_uid, sorted(one.instances), one.is_whole) for one in pieces] == expected
    assert {uid for one in pieces for uid in one.instances} == named_instances(remote) - set(held)


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (FetchTarget(study_instance_uid="1.2.3"), "study:1.2.3"),
        (FetchTarget(study_instance_uid="1.2.3", archive="pacs"), "study:1.2.3@pacs"),
        (FetchTarget(accession_number="A1"), "accession:A1"),
        (FetchTarget(accession_number="A1", patient_id="P1"), "accession:A1:fbeae7c18667"),
    ],
    ids=["study", "study at an archive", "accession number", "of a patient, who is not named"],
)
def test_who_asks_for_the_same_gets_the_same(target: FetchTarget, key: str) -> None:
    assert target.faults() == ()
    assert target.key == key
