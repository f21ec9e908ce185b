# SPDX-License-Identifier: Apache-2.0
"""Studies fetched from Orthanc each way: C-MOVE, C-GET and WADO-RS, found by C-FIND and by QIDO-RS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.peers.orthanc import Modality, Orthanc, run_orthanc
from conformance.peers.process import free_port
from informatics_gateway.archives import make_study_archives
from task_manager.fetching.model import FetchState
from task_manager.outcome import Accepted
from tests.instances import STUDY, ct, data_set_bytes
from tests.loopback.fetching.site import Site, running, send, settings_for
from tests.unit.informatics_gateway.dicomweb.images import image, pixels, rle

pytestmark = pytest.mark.peers
FILES = [
    *(ct(number) for number in range(1, 4)),
    ct(9, SeriesInstanceUID=f"{STUDY}.2", SOPInstanceUID=f"{STUDY}.2.9"),
    rle(image(pixels(), SOPInstanceUID=f"{STUDY}.3.1", SeriesInstanceUID=f"{STUDY}.3")),
]
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


def site_of(folder: Path, archive: Orthanc, port: int, retrieve: str, by_web: bool) -> Site:
    return running(  # type: ignore[return-value]
        folder,
        lambda door: make_study_archives(settings_for(archive, door, retrieve=retrieve, by_web=by_web)),
        port=port,
    )


@pytest.mark.parametrize(("retrieve", "by_web"), WAYS, ids=lambda value: str(value))
def test_a_study_is_fetched_as_it_is_kept(
    tmp_path: Path, filled: Orthanc, port: int, retrieve: str, by_web: bool
) -> None:
    with site_of(tmp_path / "site", filled, port, retrieve, by_web) as site:  # type: ignore[attr-defined]
        asked = site.bed.service.fetches.request(study_instance_uid=STUDY, asked_by="test")
        assert isinstance(asked, Accepted)
        status = site.wait(asked.uid, FetchState.DONE, FetchState.HELD)
        assert (status.fetch.state, status.fetch.expected, status.held) == (FetchState.DONE, 5, 5)
        kept = sorted(data_set_bytes(content) for content in site.files(STUDY))
        assert kept == sorted(data_set_bytes(content) for content in FILES)
