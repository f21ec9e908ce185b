# SPDX-License-Identifier: Apache-2.0
"""Multi-frame objects: their geometry, also where the kept header has no room for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage

from task_manager.actor import Source
from task_manager.outcome import Accepted, Refused
from task_manager.rules.dry_run import gathered_studies
from task_manager.rules.explain import RuleVerdict
from task_manager.rules.functional_groups import with_functional_groups
from task_manager.rules.geometry import planes_of, stack_of
from task_manager.study.header import read_header
from tests.instances import NOW, STUDY, ct_data_set, part10
from tests.service import make_service
from tests.unit.task_manager.rules.headers import AXIAL
from tests.unit.task_manager.steps import complete

RULES = """
rules:
  - name: enhanced
    app: lung-ct
    series:
      - name: volume
        where: {geometry.spacing_mm: 2, geometry.slices: 900, acquisition.b_values: [0, 800]}
"""


def enhanced(frames: int) -> bytes:
    """An enhanced MR object; from some hundred frames on, the groups are more than a header keeps."""
    image = ct_data_set(1, SOPClassUID=EnhancedMRImageStorage, Modality="MR", NumberOfFrames=frames)
    orientation = Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    shared = Dataset()
    shared.PlaneOrientationSequence = [orientation]
    image.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for number in range(frames):
        position, diffusion, group = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2 * number]
        diffusion.DiffusionBValue = 800.0 * (number % 2)
        group.PlanePositionSequence = [position]
        group.MRDiffusionSequence = [diffusion]
        groups.append(group)
    image.PerFrameFunctionalGroupsSequence = groups
    return part10(image)


@pytest.mark.parametrize("frames", [20, 900], ids=["kept", "read from the object"])
def test_frames_have_a_geometry(frames: int, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(enhanced(frames))
    header = read_header(path)
    assert not isinstance(header, Refused)
    kept, images = planes_of(header.attributes)
    assert (len(kept), images) == (20 if frames == 20 else 0, frames)
    stack = stack_of(planes_of(with_functional_groups(header.attributes, path))[0])
    assert stack is not None
    assert (stack.slices, stack.spacing_mm, stack.gaps) == (frames, 2.0, 0)


@pytest.mark.parametrize("content", [None, b"", b"DICM" * 99], ids=["gone", "empty", "other bytes"])
def test_an_object_that_cannot_be_read_stays_as_its_header_is(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(enhanced(900))
    header = read_header(path)
    assert not isinstance(header, Refused)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert with_functional_groups(header.attributes, path) == header.attributes


def test_a_plain_image_is_not_read_again(tmp_path: Path) -> None:
    attributes = {"00080060": {"vr": "CS", "Value": ["CT"]}}
    assert with_functional_groups(attributes, tmp_path / "none") is attributes


def test_a_stored_object_is_matched_by_its_frames(tmp_path: Path) -> None:
    bed = make_service(tmp_path, rules=RULES)
    assert isinstance(bed.receive(enhanced(900)), Accepted)
    complete(bed)
    story = bed.service.story(STUDY)
    assert story is not None
    assert story.explanations[0][2].verdict is RuleVerdict.MATCHED
    assert len(story.workitems) == 1
    bed.database.close()


def test_files_are_gathered_into_studies(tmp_path: Path) -> None:
    headers = []
    for name, content in (
        ("a", part10(ct_data_set(2))),
        ("b", part10(ct_data_set(1))),
        ("again", part10(ct_data_set(1))),
        ("other", part10(ct_data_set(1, study="1.2.3.4", InstanceNumber=None))),
    ):
        (tmp_path / name).write_bytes(content)
        header = read_header(tmp_path / name)
        assert not isinstance(header, Refused)
        headers.append(header)
    first, second = gathered_studies(headers, Source(door="dicom", calling="CT1"), NOW)
    assert [one.number_of_instances for one in first.study.series] == [2]
    assert [one.instance_number for one in first.acquisition.images(f"{STUDY}.1")] == [1, 2]
    assert [one.instance_number for one in second.acquisition.images("1.2.3.4.1")] == [None]
    assert [one.calling for one in second.acquisition.sources("1.2.3.4.1")] == ["CT1"]
