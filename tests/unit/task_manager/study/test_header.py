# SPDX-License-Identifier: Apache-2.0
"""read_header: a header or a refusal, whatever the bytes are."""

from __future__ import annotations

import io
import json
import struct
import time
import warnings
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_files
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from profiles.dicom_json import first, text, values
from task_manager.outcome import RefusalCode, Refused
from task_manager.study.elements import MAX_KEPT_BYTES
from task_manager.study.header import MAX_INFLATED_BYTES, announced_uids, read_header
from task_manager.study.model import InstanceHeader
from tests.instances import STUDY, ct, ct_data_set, part10


def read(tmp_path: Path, content: bytes) -> InstanceHeader | Refused:
    path = tmp_path / "instance.dcm"
    path.write_bytes(content)
    return read_header(path)


def header_of(tmp_path: Path, content: bytes) -> InstanceHeader:
    found = read(tmp_path, content)
    assert isinstance(found, InstanceHeader), found
    return found


def private_data_set() -> Dataset:
    image = ct_data_set(2)
    block = image.private_block(0x0029, "AIRWAY TEST", create=True)
    block.add_new(0x01, "LO", "private text")
    block.add_new(0x02, "OB", b"\1\2\3\4")
    item = Dataset()
    item.CodeValue = "T1"
    item.CodeMeaning = "Größe"
    image.ProcedureCodeSequence = [item]
    return image


class TestReading:
    @pytest.mark.parametrize(
        "transfer_syntax",
        [
            ImplicitVRLittleEndian,
            ExplicitVRLittleEndian,
            ExplicitVRBigEndian,
            DeflatedExplicitVRLittleEndian,
        ],
        ids=lambda uid: uid.keyword,
    )
    def test_header_of_every_uncompressed_transfer_syntax(self, tmp_path: Path, transfer_syntax: str) -> None:
        header = header_of(tmp_path, part10(private_data_set(), transfer_syntax))
        assert header.transfer_syntax_uid == transfer_syntax
        assert header.study_instance_uid == STUDY
        assert header.sop_instance_uid == f"{STUDY}.1.2"
        assert text(header.attributes, "PatientName") == "Müller^Jörg"
        assert first(header.attributes, "InstanceNumber") == 2
        assert first(header.attributes, "Rows") == 16
        assert header.attributes["00081032"]["Value"][0]["00080104"]["Value"] == ["Größe"]
        assert header.attributes["00290010"] == {"vr": "LO", "Value": ["AIRWAY TEST"]}
        assert "7FE00010" not in header.attributes

    def test_private_value_keeps_its_vr_when_explicit(self, tmp_path: Path) -> None:
        header = header_of(tmp_path, part10(private_data_set()))
        assert header.attributes["00291001"] == {"vr": "LO", "Value": ["private text"]}
        assert header.attributes["00291002"] == {"vr": "OB", "InlineBinary": "AQIDBA=="}

    def test_values_over_one_kibibyte_are_left_out(self, tmp_path: Path) -> None:
        header = header_of(
            tmp_path, ct(ImageComments="x" * 1025, RedPaletteColorLookupTableData=b"\0\1" * 900)
        )
        assert "00204000" not in header.attributes
        assert "00281201" not in header.attributes

    def test_invalid_values_stay_readable(self, tmp_path: Path) -> None:
        content = ct(AcquisitionNumber="7", SliceThickness="2.5", StudyTime="101112")
        content = content.replace(b"IS\x02\x007 ", b"IS\x02\x00x ").replace(
            b"DS\x04\x002.5 ", b"DS\x04\x00abc "
        )
        header = header_of(tmp_path, content.replace(b"101112", b"noon!!"))
        assert values(header.attributes, "AcquisitionNumber") == ["x"]
        assert values(header.attributes, "SliceThickness") == ["abc"]
        assert values(header.attributes, "StudyTime") == ["noon!!"]

    def test_encapsulated_pixel_data(self, tmp_path: Path) -> None:
        image = ct_data_set()
        del image.PixelData
        frame = struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"abcd"
        element = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + frame
        whole = part10(image, RLELossless) + element
        assert header_of(tmp_path, whole + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)).transfer_syntax_uid
        assert isinstance(read(tmp_path, whole), Refused)

    def test_zero_bytes_after_the_last_element_are_padding(self, tmp_path: Path) -> None:
        assert header_of(tmp_path, ct() + bytes(100)).sop_instance_uid

    def test_large_sequence_is_left_out_but_followed(self, tmp_path: Path) -> None:
        image = ct_data_set()
        items = []
        for number in range(2000):
            item = Dataset()
            item.ReferencedSOPClassUID = "1.2.3"
            item.ReferencedSOPInstanceUID = f"1.2.3.{number}"
            items.append(item)
        image.ReferencedImageSequence = items
        image.SeriesDescription = "after"
        image["ReferencedImageSequence"].is_undefined_length = True
        header = header_of(tmp_path, part10(image))
        assert "00081140" not in header.attributes
        assert text(header.attributes, "SeriesDescription") == "after"

    def test_a_header_takes_less_than_a_millisecond_and_a_half(self, tmp_path: Path) -> None:
        image = ct_data_set(pixels=512 * 1024)
        for group in range(0x0029, 0x0069, 2):
            block = image.private_block(group, "VENDOR", create=True)
            for number in range(3):
                block.add_new(number, "LO", f"value {number}")
        path = tmp_path / "instance.dcm"
        path.write_bytes(part10(image))
        durations = []
        for _ in range(20):
            start = time.perf_counter()
            assert isinstance(read_header(path), InstanceHeader)
            durations.append(time.perf_counter() - start)
        assert min(durations) < 1.5e-3


class TestCharacterSets:
    @pytest.mark.parametrize(
        ("charset", "raw", "expected"),
        [
            ("", b"Plain^Name", {"Alphabetic": "Plain^Name"}),
            ("ISO_IR 100", "Buc^Jérôme".encode("latin-1"), {"Alphabetic": "Buc^Jérôme"}),
            ("ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), {"Alphabetic": "Люкceмбypг"}),
            ("ISO_IR 192", "王^小東".encode(), {"Alphabetic": "王^小東"}),
            ("GB18030", "王^小东".encode("gb18030"), {"Alphabetic": "王^小东"}),
            ("", "Ünknown".encode(), {"Alphabetic": "Ünknown"}),
            ("", "Ünknown".encode("latin-1"), {"Alphabetic": "Ünknown"}),
            ("NO SUCH SET", b"Plain", {"Alphabetic": "Plain"}),
            (
                "\\ISO 2022 IR 87",
                b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
                {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
            ),
            (
                "\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
                {"Alphabetic": "Hong^Gildong", "Ideographic": "洪^吉洞"},
            ),
            ("ISO_IR 192", b"A\x00B\xff", {"Alphabetic": "AB�"}),
        ],
    )
    def test_person_name(self, tmp_path: Path, charset: str, raw: bytes, expected: dict[str, str]) -> None:
        content = ct(PatientName="@@@@@@@@", SpecificCharacterSet="ISO_IR 6")
        raw += b" " * (len(raw) % 2)
        term = charset.encode() + b" " * (len(charset) % 2)
        content = content.replace(b"PN\x08\x00@@@@@@@@", b"PN" + struct.pack("<H", len(raw)) + raw)
        content = content.replace(b"CS\x08\x00ISO_IR 6", b"CS" + struct.pack("<H", len(term)) + term)
        header = header_of(tmp_path, content)
        assert header.attributes["00100010"]["Value"] == [expected]


class TestRefusing:
    @pytest.mark.parametrize(
        ("content", "code"),
        [
            pytest.param(b"", RefusalCode.MALFORMED, id="zero-byte"),
            pytest.param(b"\x89PNG" + bytes(500), RefusalCode.MALFORMED, id="not-dicom"),
            pytest.param(bytes(128) + b"DICM", RefusalCode.MALFORMED, id="prefix-only"),
            pytest.param(ct()[144:], RefusalCode.MALFORMED, id="no-preamble"),
            pytest.param(ct()[:-10], RefusalCode.MALFORMED, id="pixels-truncated"),
            pytest.param(ct(StudyInstanceUID=None), RefusalCode.NOT_STORABLE, id="no-study-uid"),
            pytest.param(
                ct().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0"),
                RefusalCode.NOT_STORABLE,
                id="unknown-transfer-syntax",
            ),
            pytest.param(
                ct().replace(b"\x08\x00\x16\x00UI", b"\x02\x00\x16\x00UI"),
                RefusalCode.MALFORMED,
                id="meta-group-in-data-set",
            ),
            pytest.param(
                ct().replace(b"\x10\x00\x20\x00LO\x02\x00", b"\x10\x00\x20\x00UT\0\0\xff\xff\xff\x7f"),
                RefusalCode.MALFORMED,
                id="two-gigabytes-claimed",
            ),
            pytest.param(
                ct().replace(b"\x10\x00\x20\x00LO\x02\x00", b"\xfe\xff\x0d\xe0LO\x02\x00"),
                RefusalCode.MALFORMED,
                id="stray-delimiter",
            ),
        ],
    )
    def test_refused_with_a_fault(self, tmp_path: Path, content: bytes, code: RefusalCode) -> None:
        refused = read(tmp_path, content)
        assert isinstance(refused, Refused)
        assert refused.code is code
        assert refused.faults

    @pytest.mark.parametrize(
        "uid",
        [
            "../../etc/passwd",
            "1.2.3/../..",
            "1..2",
            "1.2.03",
            "1.2.\n3",
            "abc",
            "1",
            "1.2 .3",
            "/1.2.3",
            "1.2\\3.4",
        ],
    )
    def test_ill_formed_uids_are_refused(self, tmp_path: Path, uid: str) -> None:
        raw = uid.encode() + b"\0" * (len(uid) % 2)
        content = ct(SeriesInstanceUID="1.2.3.4.5.6").replace(
            b"UI\x0c\x001.2.3.4.5.6\0", b"UI" + struct.pack("<H", len(raw)) + raw
        )
        refused = read(tmp_path, content)
        if uid == "1.2\\3.4":  # two values: the first is a UID
            assert isinstance(refused, InstanceHeader)
            assert refused.series_instance_uid == "1.2"
        else:
            assert isinstance(refused, Refused)
            assert [fault.path for fault in refused.faults] == ["SeriesInstanceUID"]

    def test_all_missing_uids_are_named(self, tmp_path: Path) -> None:
        refused = read(tmp_path, ct(StudyInstanceUID=None, SeriesInstanceUID=None))
        assert isinstance(refused, Refused)
        assert [fault.path for fault in refused.faults] == ["StudyInstanceUID", "SeriesInstanceUID"]

    def test_deep_nesting_is_refused(self, tmp_path: Path) -> None:
        opened = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
            "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
        )
        image = ct_data_set()
        del image.PixelData
        refused = read(tmp_path, part10(image) + opened * 10_000)
        assert isinstance(refused, Refused)
        assert refused.faults[0].path == "ContentSequence"

    def test_deflate_bomb_is_refused(self, tmp_path: Path) -> None:
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = squeeze.compress(bytes(MAX_INFLATED_BYTES + 1)) + squeeze.flush()
        head = part10(Dataset(), DeflatedExplicitVRLittleEndian)
        length = int.from_bytes(head[140:144], "little")
        refused = read(tmp_path, head[: 144 + length] + bomb)
        assert isinstance(refused, Refused)
        assert "inflates" in refused.faults[0].message

    def test_missing_file_is_a_refusal(self, tmp_path: Path) -> None:
        refused = read_header(tmp_path / "nothing")
        assert isinstance(refused, Refused)
        assert refused.code is RefusalCode.PROCESSING_FAILURE

    def test_truncation_anywhere_is_refused(self, tmp_path: Path) -> None:
        content = part10(private_data_set())
        accepted = [
            cut
            for cut in range(0, len(content), 97)
            if not isinstance(read(tmp_path, content[:cut]), Refused)
        ]
        assert accepted == []

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        flips=st.lists(st.tuples(st.integers(132, 1400), st.integers(0, 7)), min_size=1, max_size=12),
        syntax=st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]),
    )
    def test_flipped_bits_never_raise(
        self, tmp_path: Path, flips: list[tuple[int, int]], syntax: str
    ) -> None:
        content = bytearray(part10(private_data_set(), syntax))
        for at, bit in flips:
            content[at % len(content)] ^= 1 << bit
        found = read(tmp_path, bytes(content))
        if isinstance(found, InstanceHeader):
            assert json.dumps(found.attributes, allow_nan=False)
        else:
            assert found.faults


def pydicom_files() -> list[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(Path(str(name)) for name in get_testdata_files())


class TestForeignFiles:
    def test_all_of_pydicoms_files_are_read_or_refused(self) -> None:
        files = [path for path in pydicom_files() if path.is_file()]
        found = [read_header(path) for path in files]
        headers = [item for item in found if isinstance(item, InstanceHeader)]
        assert len(headers) > 50
        assert all(item.faults for item in found if isinstance(item, Refused))
        assert all(json.dumps(item.attributes, allow_nan=False) for item in headers)

    @pytest.mark.parametrize(
        "name",
        ["CT_small.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "rtplan.dcm", "reportsi.dcm"],
    )
    def test_same_values_as_pydicom(self, name: str) -> None:
        path = next(path for path in pydicom_files() if path.name == name)
        header = read_header(path)
        assert isinstance(header, InstanceHeader)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = dcmread(io.BytesIO(path.read_bytes()), stop_before_pixels=True).to_json_dict()
        for key, element in expected.items():
            if (
                element["vr"] in ("UI", "CS", "SH", "LO", "PN", "DA", "TM", "US", "UL", "IS", "FD")
                and key[-4:] != "0000"
            ):
                assert header.attributes[key].get("Value") == element.get("Value"), key

    @pytest.mark.real_data
    def test_odd_encodings(self, shared_data: Path) -> None:
        files = sorted(path for path in (shared_data / "odd-encodings").rglob("*") if path.is_file())
        verdicts = {path.name: read_header(path) for path in files}
        refused = {name for name, found in verdicts.items() if isinstance(found, Refused)}
        assert {"MR_truncated.dcm", "rtplan_truncated.dcm", "no_meta.dcm"} <= refused
        assert len(files) - len(refused) > 60


class TestAnnouncedUids:
    def test_from_the_file_meta_information(self, tmp_path: Path) -> None:
        path = tmp_path / "a.dcm"
        path.write_bytes(ct()[:400])
        assert announced_uids(path) == ("1.2.840.10008.5.1.4.1.1.2", f"{STUDY}.1.1")

    @pytest.mark.parametrize("content", [b"", b"x" * 200, bytes(128) + b"DICM\x02\x00"])
    def test_empty_when_there_are_none(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.dcm"
        path.write_bytes(content)
        assert announced_uids(path) == ("", "")


def test_a_header_of_many_small_elements_is_kept_up_to_a_limit(tmp_path: Path) -> None:
    file = ct()
    pixels = file.index(struct.pack("<HH", 0x7FE0, 0x0010))
    elements = (
        struct.pack("<HH2sH", 0x7001 + 2 * (number // 60_000), 0x1000 + number % 60_000, b"LO", 0)
        for number in range(100_000)
    )
    path = tmp_path / "many.dcm"
    path.write_bytes(file[:pixels] + b"".join(elements) + file[pixels:])
    header = read_header(path)
    assert isinstance(header, InstanceHeader)
    assert text(header.attributes, "StudyInstanceUID") == STUDY
    assert len(json.dumps(header.attributes)) < MAX_KEPT_BYTES
