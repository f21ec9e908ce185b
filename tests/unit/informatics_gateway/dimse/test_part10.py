# SPDX-License-Identifier: Apache-2.0
"""The file meta information that goes before a data set from the network."""

from __future__ import annotations

import io

import pytest
from pydicom import dcmread

from informatics_gateway.dimse.part10 import IMPLEMENTATION_CLASS_UID, file_meta
from profiles.uids import is_uid
from tests.instances import STUDY, ct, data_set_bytes


def test_file_that_pydicom_reads() -> None:
    head = file_meta(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=f"{STUDY}.1.1",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        source_ae_title="SCANNER",
    )
    image = dcmread(io.BytesIO(head + data_set_bytes(ct())))
    meta = image.file_meta
    assert meta.MediaStorageSOPInstanceUID == image.SOPInstanceUID
    assert meta.FileMetaInformationGroupLength == len(head) - 144
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.SourceApplicationEntityTitle == "SCANNER"
    assert is_uid(IMPLEMENTATION_CLASS_UID)
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID


@pytest.mark.parametrize("uid", ["", "x" * 500, "ünïcode", "a\0b", "1.2.3"], ids=repr)
def test_whatever_is_announced_stays_one_element(uid: str) -> None:
    head = file_meta(
        sop_class_uid=uid,
        sop_instance_uid=uid,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        source_ae_title=uid,
    )
    assert (len(head) - 144) == int.from_bytes(head[140:144], "little")
    assert len(head) % 2 == 0
