# SPDX-License-Identifier: Apache-2.0
"""Studies fetched from Orthanc each way: C-MOVE, C-GET and WADO-RS, found by C-FIND and by QIDO-RS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from conformance.peers.orthanc import Modality, Orthanc, run_orthanc
from conformance.peers.process import free_port
from informatics_gateway.archives import make_study_archives
from profiles.dicom_json import items, text
from task_manager.fetching.model import FetchState
from task_manager.outcome import Accepted, Refused
from tests.instances import STUDY, ct, data_set_bytes
from tests.loopback.fetching.site import Site, running, send, settings_for, wait_for
from tests.service import RULES
from tests.unit.informatics_gateway.dicomweb.images import image, pixels, rle

pytestmark = pytest.mark.peers
FILES = [
    *(ct(number) for number in range(1, 4)),
    ct(9, SeriesInstanceUID=f"{STUDY}.2", SOPInstanceUID=f"{STUDY}.2.9"),
    rle(image(pixels(), SOPInstanceUID=f"{STUDY}.3.1", SeriesInstanceUID=f"{STUDY}.3")),
]
PRIORS = """
rules:
  - name: compare
    app: lung-ct
    series: [{name: now, where: {Modality: CT}}]
    priors: [{name: before, modality: CT, body_part: CHEST, wait_min: 10}]
"""
WAYS = [("move", False), ("move", True), ("get", False), ("get", True), ("wado", True)]


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def archive(port: int) -> Iterator[Orthanc]:
    """An Orthanc that may be asked by anybody and knows our port as a place to move to."""
    airway = Modality(name="airway", ae_title="AIRWAY", host="127.0.0.1", port=port)
    allowed = {"DicomAlwaysAllowFind": True, "DicomAlwaysAllowMove": True, "DicomAlwaysAllowGet": True}
    with run_orthanc(modalities=[airway], settings=allowed) as peer:
        yield peer


@pytest.fixture
def filled(archive: Orthanc, tmp_path: Path) -> Orthanc:
    archive.clear()
    send(archive, tmp_path / "sent", FILES)
    return archive


def site_of(
    folder: Path, archive: Orthanc, port: int, retrieve: str, by_web: bool, *, rules: str = RULES
) -> AbstractContextManager[Site]:
    return running(
        folder,
        lambda door: make_study_archives(settings_for(archive, door, retrieve=retrieve, by_web=by_web)),
        port=port,
        rules=rules,
    )


@pytest.mark.parametrize(("retrieve", "by_web"), WAYS, ids=lambda value: str(value))
def test_a_study_is_fetched_as_it_is_kept(
    tmp_path: Path, filled: Orthanc, port: int, retrieve: str, by_web: bool
) -> None:
    with site_of(tmp_path / "site", filled, port, retrieve, by_web) as site:
        asked = site.bed.service.fetches.request(study_instance_uid=STUDY, asked_by="test")
        assert isinstance(asked, Accepted)
        status = site.wait(asked.uid, FetchState.DONE, FetchState.HELD)
        assert (status.fetch.state, status.fetch.expected, status.held) == (FetchState.DONE, 5, 5)
        kept = sorted(data_set_bytes(content) for content in site.files(STUDY))
        assert kept == sorted(data_set_bytes(content) for content in FILES)


@pytest.mark.parametrize(("retrieve", "by_web"), [("get", False), ("wado", True)], ids=["dimse", "web"])
def test_priors_are_found_and_fetched(
    tmp_path: Path, archive: Orthanc, port: int, retrieve: str, by_web: bool
) -> None:
    archive.clear()
    old, foreign = f"{STUDY}.77", f"{STUDY}.78"
    earlier = [
        ct(1, study=old, StudyDate="20250301", AccessionNumber="B1", BodyPartExamined="CHEST"),
        ct(1, study=foreign, StudyDate="20250301", PatientID="P2", AccessionNumber="B2"),
    ]
    send(archive, tmp_path / "sent", earlier)
    with site_of(tmp_path / "site", archive, port, retrieve, by_web, rules=PRIORS) as site:
        assert isinstance(site.bed.receive(ct(1)), Accepted)
        site.bed.clock.pass_(60)

        def inputs() -> list[str] | None:
            story = site.bed.service.story(STUDY)
            if story is None or not story.workitems:
                return None
            workitem = site.bed.service.worklist.retrieve_workitem(story.workitems[0].uid)
            assert not isinstance(workitem, Refused)
            return [text(one, "StudyInstanceUID") for one in items(workitem, "InputInformationSequence")]

        assert wait_for(site, inputs) == [STUDY, old]
        story = site.bed.service.story(STUDY)
        assert story is not None
        (prior,) = story.explanations[-1][2].priors
        assert [one.study_instance_uid for one in prior.candidates] == [old]
        assert data_set_bytes(site.files(old)[0]) == data_set_bytes(earlier[0])


@pytest.mark.parametrize("by_web", [False, True], ids=["dimse", "web"])
def test_an_accession_number_is_found(tmp_path: Path, filled: Orthanc, port: int, by_web: bool) -> None:
    with site_of(tmp_path / "site", filled, port, "get", by_web) as site:
        asked = site.bed.service.fetches.request(accession_number="A1")
        assert isinstance(asked, Accepted)
        status = site.wait(asked.uid, FetchState.DONE, FetchState.HELD)
        assert (status.fetch.state, status.held) == (FetchState.DONE, 5)
        nobody = site.bed.service.fetches.request(accession_number="A404")
        assert isinstance(nobody, Accepted)
        site.wait(nobody.uid, FetchState.NOT_FOUND)


def test_an_archive_that_does_not_know_us_is_told_to_a_person(
    tmp_path: Path, filled: Orthanc, port: int
) -> None:
    settings = settings_for(filled, port, retrieve="move", by_web=False)
    dicom = settings.gateway.dicom.model_copy(update={"ae_title": "STRANGER"})
    strange = settings.model_copy(update={"gateway": settings.gateway.model_copy(update={"dicom": dicom})})
    with running(tmp_path / "site", lambda _: make_study_archives(strange), port=port) as site:
        asked = site.bed.service.fetches.request(study_instance_uid=STUDY)
        assert isinstance(asked, Accepted)
        status = site.wait(asked.uid, FetchState.HELD, FetchState.DONE, FetchState.WAITING)
        assert status.fetch.state is not FetchState.DONE
        assert site.files(STUDY) == []
