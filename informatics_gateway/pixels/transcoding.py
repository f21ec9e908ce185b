# SPDX-License-Identifier: Apache-2.0
"""Stored images in native little endian: whole instances, and single frames as their native bytes.

The codecs are those of pydicom and its plug-ins. An instance is written frame by frame; what holds its pixels
at a time is one decoded frame.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from informatics_gateway.pixels.code_streams import announced_samples
from task_manager.study.frames import MAX_FRAME_BYTES, Frames, Geometry

MAX_DECODED_BYTES = 256 * 1024**2
"""A compressed frame that becomes more is not decoded: a few hundred bytes can announce any size."""

_PIXEL_DATA = 0x7FE00010
_MOST_PIXEL_BYTES = 0xFFFFFFFE
_CHUNK_BYTES = 1024 * 1024
_RLE_SLACK = 64 * 1024
_SPOOLED_BYTES = 8 * 1024 * 1024
_WIDTHS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}


class TranscodingError(ValueError):
    """The pixels cannot be decoded; nothing is wrong with how they are stored."""


def can_decode(transfer_syntax_uid: str) -> bool:
    """Whether pixels in this transfer syntax can be made native ones."""
    if not UID(transfer_syntax_uid).is_compressed:
        return True
    try:
        return bool(get_decoder(transfer_syntax_uid).is_available)
    except NotImplementedError:
        return False


def stored_frame(path: Path, frames: Frames, index: int) -> Iterator[bytes]:
    """The bytes of frame `index` (from 0) as they are stored, in chunks; native ones in little endian."""
    value = frames.value
    bits, single_bits = frames.geometry.frame_bits, index * frames.geometry.frame_bits % 8
    if not value.encapsulated and (single_bits or bits % 8):
        yield _bit_frame(path, frames, index)
        return
    width = 1 if value.little_endian or value.encapsulated else _swap_width(frames)
    if value.inflated is not None:
        for start, end in frames.ranges(index):
            yield value.inflated[start:end]
        return
    with path.open("rb") as file:
        for start, end in frames.ranges(index):
            file.seek(start)
            while start < end and (chunk := file.read(min(_CHUNK_BYTES, end - start))):
                start += len(chunk)
                yield swapped(chunk, width)


def swapped(data: bytes, width: int) -> bytes:
    """`data` with the bytes of each word of `width` bytes turned round."""
    if width == 1:
        return data
    whole = len(data) // width * width
    turned = bytearray(whole)
    for offset in range(width):
        turned[offset::width] = data[width - 1 - offset : whole : width]
    return bytes(turned) + data[whole:]


def word_width(vr: str) -> int:
    """Bytes of the words of a binary VR."""
    return _WIDTHS.get(vr, 1)


def _swap_width(frames: Frames) -> int:
    return max(2, frames.geometry.bits_allocated // 8) if frames.value.vr != "OB" else 1


def _bit_frame(path: Path, frames: Frames, index: int) -> bytes:
    """A frame that does not begin or end at a byte, moved so that it begins at one (PS3.5 8.1.1)."""
    ((start, end),) = frames.ranges(index)
    value = frames.value
    if value.inflated is not None:
        raw = value.inflated[start:end]
    else:
        with path.open("rb") as file:
            file.seek(start)
            raw = file.read(end - start)
    bits = frames.geometry.frame_bits
    moved = int.from_bytes(raw, "little") >> (index * bits % 8)
    return (moved & ((1 << bits) - 1)).to_bytes(-(-bits // 8), "little")


def native_frame(path: Path, frames: Frames, header: Dataset, index: int) -> bytes:
    """Frame `index` (from 0) decoded: little endian, colour by pixel and RGB where it was compressed YBR.

    Raises
    ------
    TranscodingError
        If it cannot be decoded, or is larger than any image.
    """
    if not frames.value.encapsulated:
        return b"".join(stored_frame(path, frames, index))
    array = decoded(path, frames, header, index, raw=False)
    return bytes(array.tobytes())


def pixel_header(path: Path) -> Dataset:
    """The header at `path` as pydicom reads it, without pixel data and large values."""
    return dcmread(path, stop_before_pixels=True, force=True)


def decoded(path: Path, frames: Frames, header: Dataset, index: int, *, raw: bool) -> Any:
    """Frame `index` (from 0) as an array of rows, columns and perhaps samples.

    Parameters
    ----------
    raw
        Whether colours stay as they are coded.

    Raises
    ------
    TranscodingError
        If it cannot be decoded, or is larger than any image.
    """
    return _decoded(path, frames, header, index, raw=raw)[0]


def _decoded(path: Path, frames: Frames, header: Dataset, index: int, *, raw: bool) -> tuple[Any, str]:
    """A frame as an array, and the Photometric Interpretation it has then."""
    geometry = frames.geometry
    most = MAX_DECODED_BYTES if frames.value.encapsulated else MAX_FRAME_BYTES
    if not 0 < geometry.frame_bits <= most * 8:
        raise TranscodingError("the header tells no size of a frame that is decoded")
    syntax = frames.value.transfer_syntax_uid
    one = Dataset()
    for element in header.group_dataset(0x0028):
        one.add(element)
    one.NumberOfFrames = 1
    content = b"".join(stored_frame(path, frames, index))
    if frames.value.encapsulated:
        _check_size(content, syntax, geometry)
        content = _encapsulated(content)
    elif syntax == ExplicitVRBigEndian or not UID(syntax).is_little_endian:
        syntax = ExplicitVRLittleEndian
    try:
        options = _options(one, geometry, frames.value.vr)
        array, told = get_decoder(syntax).as_array(content, index=0, raw=raw, validate=True, **options)
    except Exception as error:  # codecs raise anything on bytes that are none of theirs
        raise TranscodingError(f"a frame cannot be decoded ({type(error).__name__})") from error
    return array, str(told.get("photometric_interpretation") or geometry.photometric)


def _check_size(content: bytes, syntax: str, geometry: Geometry) -> None:
    """Refuse what would become more than the header says, before a codec believes it."""
    samples = geometry.rows * geometry.columns * geometry.samples
    if syntax == RLELossless:
        is_larger = len(content) > _RLE_SLACK + 2 * -(-geometry.frame_bits // 8)
    else:
        is_larger = (announced_samples(content) or 0) > samples
    if is_larger:
        raise TranscodingError("the code stream of a frame holds more than the header says")


def _options(one: Dataset, geometry: Geometry, vr: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "rows": geometry.rows,
        "columns": geometry.columns,
        "samples_per_pixel": geometry.samples,
        "bits_allocated": geometry.bits_allocated,
        "bits_stored": int(one.get("BitsStored") or geometry.bits_allocated),
        "number_of_frames": 1,
        "photometric_interpretation": geometry.photometric or "MONOCHROME2",
        "pixel_representation": int(one.get("PixelRepresentation") or 0),
        "pixel_keyword": {32: "FloatPixelData", 64: "DoubleFloatPixelData"}.get(
            geometry.bits_allocated if vr in ("OF", "OD") else 0, "PixelData"
        ),
        "pixel_vr": vr,
    }
    if geometry.samples > 1:
        options["planar_configuration"] = int(one.get("PlanarConfiguration") or 0)
    return options


def _encapsulated(frame: bytes) -> bytes:
    padded = frame + b"\0" * (len(frame) % 2)
    return struct.pack("<HHLHHL", 0xFFFE, 0xE000, 0, 0xFFFE, 0xE000, len(padded)) + padded


def transcoded(path: Path, frames: Frames | None) -> IO[bytes]:
    """The instance at `path` as a Part 10 file in Explicit VR Little Endian, positioned at its start.

    Raises
    ------
    TranscodingError
        If it cannot be decoded or is larger than a native value can be.
    """
    file = tempfile.SpooledTemporaryFile(max_size=_SPOOLED_BYTES)  # noqa: SIM115 - the caller closes it
    try:
        write_native(path, frames, file)
    except TranscodingError:
        file.close()
        raise
    file.seek(0)
    return file


def write_native(
    path: Path, frames: Frames | None, file: Any, *, implicit_vr: bool = False, exact: bool = False
) -> None:
    """Write the instance at `path` to `file` in native little endian.

    Parameters
    ----------
    implicit_vr
        In Implicit VR instead of Explicit VR.
    exact
        Whether colours stay as they are coded; else those of compressed YBR become RGB, as viewers want it,
        which rounds.

    Raises
    ------
    TranscodingError
        If it cannot be decoded or is larger than a native value can be.
    """
    syntax = ImplicitVRLittleEndian if implicit_vr else ExplicitVRLittleEndian
    try:
        whole = dcmread(path, force=True)
        is_native = frames is None or not frames.value.encapsulated
        if not is_native:
            del whole[_PIXEL_DATA]
    except Exception as error:  # whatever the file holds, the answer is one refusal
        raise TranscodingError(f"the data set cannot be read ({type(error).__name__})") from error
    try:
        if frames is None or is_native:
            _write(whole, file, syntax)
        else:
            _write_decoded(whole, file, syntax, path, frames, exact=exact)
    except TranscodingError:
        raise
    except Exception as error:
        raise TranscodingError(f"the data set cannot be written ({type(error).__name__})") from error


def _write(whole: Dataset, file: Any, syntax: UID) -> None:
    if whole.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        _turn_words(whole)
        whole.set_original_encoding(False, True, whole.original_character_set)
    whole.file_meta.TransferSyntaxUID = syntax
    dcmwrite(file, whole, implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=True)


def _turn_words(whole: Dataset) -> None:
    """Binary values are not read by pydicom: their words keep the byte order they were read in."""
    pixel_bytes = max(2, int(whole.get("BitsAllocated") or 16) // 8)
    for element in whole.iterall():
        if element.VR in _WIDTHS and isinstance(element.value, bytes):
            is_pixels = element.VR == "OW" and element.tag == _PIXEL_DATA
            element.value = swapped(element.value, pixel_bytes if is_pixels else _WIDTHS[element.VR])


def _write_decoded(
    whole: Dataset, file: Any, syntax: UID, path: Path, frames: Frames, *, exact: bool
) -> None:
    """Write the header, then each decoded frame; attributes behind the pixels are left out."""
    behind = [tag for tag in whole.keys() if int(tag) > _PIXEL_DATA]  # noqa: SIM118 - of raw elements too
    for tag in (*behind, 0x7FE00001, 0x7FE00002):
        if tag in whole:
            del whole[tag]
    array, photometric = _decoded(path, frames, whole, 0, raw=exact)
    if array.nbytes * 8 != array.size * frames.geometry.bits_allocated:
        raise TranscodingError("decoded, a frame has not the size that its header says")
    if frames.geometry.samples > 1:
        whole.PlanarConfiguration = 0
        if exact:
            whole.PhotometricInterpretation = _upsampled(photometric)
        elif frames.geometry.photometric.startswith("YBR"):
            whole.PhotometricInterpretation = "RGB"
    size = array.nbytes * frames.count
    if size > _MOST_PIXEL_BYTES:
        raise TranscodingError("decoded, the pixel data are longer than a value can be")
    _write(whole, file, syntax)
    if syntax.is_implicit_VR:
        file.write(struct.pack("<HHL", 0x7FE0, 0x0010, size + size % 2))
    else:
        file.write(struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, size + size % 2))
    file.write(array.tobytes())
    for index in range(1, frames.count):
        file.write(_decoded(path, frames, whole, index, raw=exact)[0].tobytes())
    file.write(b"\0" * (size % 2))


def _upsampled(photometric: str) -> str:
    """What colours are called whose samples are there for each pixel."""
    return "YBR_FULL" if photometric.startswith("YBR_FULL") else photometric
