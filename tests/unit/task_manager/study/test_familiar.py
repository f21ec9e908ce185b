# SPDX-License-Identifier: Apache-2.0
"""FamiliarHeaders: whatever the images of a series have in common, each says what it says alone."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest
from pydicom import Dataset

from profiles.dicom_json import DicomJson
from task_manager.study.elements import ElementReader
from task_manager.study.familiar import FamiliarHeaders
from tests.instances import ct_data_set
from tests.unit.task_manager.study.encoded import encoded


def series(change: Callable[[Dataset, int], None], count: int = 6) -> list[Dataset]:
    images = [ct_data_set(number) for number in range(1, count + 1)]
    for number, image in enumerate(images, start=1):
        change(image, number)
    return images


def nothing(image: Dataset, number: int) -> None:
    del image, number


def longer(image: Dataset, number: int) -> None:
    image.SeriesDescription = "long" * number


def over_the_limit(image: Dataset, number: int) -> None:
    image.ImageComments = "x" * (600 * number)


def sequences(image: Dataset, number: int) -> None:
    items = []
    for index in range(number):
        item = Dataset()
        item.ReferencedSOPInstanceUID = f"1.2.{number}.{index}"
        items.append(item)
    image.ReferencedImageSequence = items


def now_and_then(image: Dataset, number: int) -> None:
    if number % 2:
        image.ImageComments = "odd"


def character_sets(image: Dataset, number: int) -> None:
    image.SpecificCharacterSet = ("ISO_IR 100", "ISO_IR 192")[number % 2]
    image.PatientName = f"Jérôme^{number}"


def private(image: Dataset, number: int) -> None:
    block = image.private_block(0x0029, f"AIRWAY {number % 3}", create=True)
    block.add_new(0x01, "LO", f"text {number}")
    block.add_new(0x02, "UN", b"\1\2")


def signed(image: Dataset, number: int) -> None:
    image.PixelRepresentation = number % 2
    image.add_new(0x00280106, "SS" if number % 2 else "US", number)


CHANGES = (
    nothing, longer, over_the_limit, sequences, now_and_then, character_sets, private, signed,
)  # fmt: skip


def alone(data: bytes, *, explicit: bool) -> DicomJson:
    return ElementReader(data, explicit=explicit, little_endian=True).read(0)


def readings(files: Sequence[bytes], *, explicit: bool) -> list[DicomJson]:
    familiar = FamiliarHeaders()
    return [familiar.read(data, 0, len(data), explicit=explicit) for data in files]


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
def test_each_image_says_what_it_says_alone(change: Callable[[Dataset, int], None], explicit: bool) -> None:
    files = [encoded(image, explicit=explicit) for image in series(change)] * 2
    assert readings(files, explicit=explicit) == [alone(data, explicit=explicit) for data in files]


def test_pixels_may_be_beyond_what_is_at_hand() -> None:
    familiar = FamiliarHeaders()
    for data in [encoded(image, explicit=True) for image in series(nothing)]:
        start = data[: data.index(b"\xe0\x7f\x10\x00") + 20]
        assert familiar.read(start, 0, len(data), explicit=True) == alone(data, explicit=True)


@pytest.mark.parametrize("missing", [1, 2, 500], ids=str)
def test_pixels_that_do_not_end_are_told(missing: int) -> None:
    familiar = FamiliarHeaders()
    *before, last = [encoded(image, explicit=True) for image in series(nothing)]
    for data in before:
        familiar.read(data, 0, len(data), explicit=True)
    with pytest.raises((ValueError, struct.error)):
        familiar.read(last[:-missing], 0, len(last) - missing, explicit=True)


def test_every_cut_of_a_familiar_header_is_told_or_read_as_it_is_alone() -> None:
    familiar = FamiliarHeaders()
    *before, last = [encoded(image, explicit=True) for image in series(sequences)]
    for data in before:
        familiar.read(data, 0, len(data), explicit=True)
    for end in range(last.index(b"\xe0\x7f\x10\x00")):
        cut = last[:end]
        try:
            expected = alone(cut, explicit=True)
        except (ValueError, struct.error, IndexError):
            with pytest.raises((ValueError, struct.error, IndexError)):
                familiar.read(cut, 0, len(cut), explicit=True)
        else:
            assert familiar.read(cut, 0, len(cut), explicit=True) == expected


def test_other_bytes_anywhere_are_read_as_they_are_alone() -> None:
    familiar = FamiliarHeaders()
    *before, last = [encoded(image, explicit=True) for image in series(sequences)]
    for data in before:
        familiar.read(data, 0, len(data), explicit=True)
    for at in range(last.index(b"\xe0\x7f\x10\x00") + 12):
        changed = last[:at] + bytes((last[at] ^ 0x41,)) + last[at + 1 :]
        try:
            expected = alone(changed, explicit=True)
        except (ValueError, struct.error, IndexError):
            with pytest.raises((ValueError, struct.error, IndexError)):
                familiar.read(changed, 0, len(changed), explicit=True)
        else:
            assert familiar.read(changed, 0, len(changed), explicit=True) == expected


def test_what_is_there_twice_is_read_as_it_is_alone() -> None:
    """The second is too long to be kept in the last image: then the first counts."""

    def image(second: bytes) -> bytes:
        series = ((0x000E, b"UI", b"1.2.3.44"), (0x1002, b"LO", b"the same in all images of a series " * 2))
        elements = (*series, (0x4000, b"LT", b"first "), (0x4000, b"LT", second))
        return b"".join(
            struct.pack("<HH2sH", 0x0020, number, vr, len(value)) + value for number, vr, value in elements
        )

    files = [image(second) for second in (b"aa", b"bbbb", b"c" * 1200)]
    assert readings(files, explicit=True) == [alone(data, explicit=True) for data in files]
