# SPDX-License-Identifier: Apache-2.0
"""C-STORE to peers that take some transfer syntaxes only: as stored, else decompressed exactly."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from pynetdicom import AE, StoragePresentationContexts, evt

from conformance.peers.dcmtk import run_storescp
from informatics_gateway.dimse.requestor import DicomAddress
from informatics_gateway.dimse.store_scu import DicomDeliverer
from task_manager.errors import FinalDeliveryError
from task_manager.ports import Receipt
from tests.instances import ct, part10, shipment
from tests.unit.informatics_gateway.dicomweb.images import image, pixels, rle

HOST = "127.0.0.1"


@contextmanager
def receiver(*syntaxes: str) -> Iterator[tuple[int, list[bytes]]]:
    """A receiver of all storage classes in some transfer syntaxes; its port, and the files it got."""
    got: list[bytes] = []

    def keep(event: Any) -> int:
        got.append(event.encoded_dataset())
        return 0x0000

    entity = AE(ae_title="RECEIVER")
    for context in StoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, list(syntaxes))
    listener = entity.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    assert listener is not None
    try:
        yield int(listener.server_address[1]), got
    finally:
        entity.shutdown()


def send(port: int, folder: Path, *files: bytes, called: str = "RECEIVER") -> Receipt:
    address = DicomAddress(host=HOST, port=port, called_ae_title=called)
    return DicomDeliverer(address, timeout_s=10).deliver(shipment(folder, *files))


def sent(folder: Path, content: bytes, *syntaxes: str) -> Dataset:
    """What a receiver of these syntaxes gets of a file."""
    with receiver(*syntaxes) as (port, got):
        send(port, folder, content)
    return dcmread(io.BytesIO(got[0]))


def example(name: str) -> bytes:
    """One of the files that pydicom ships."""
    return Path(str(get_testdata_file(name))).read_bytes()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(ct(1), id="explicit little endian"),
        pytest.param(rle(image(pixels())), id="RLE, three frames"),
        pytest.param(example("MR_small_RLE.dcm"), id="RLE, MR"),
        pytest.param(example("SC_rgb_rle.dcm"), id="RLE, colour"),
        pytest.param(example("MR_small_bigendian.dcm"), id="big endian"),
        pytest.param(example("JPEG2000.dcm"), id="JPEG 2000"),
    ],
)
def test_pixels_stay_the_same(tmp_path: Path, content: bytes, syntax: str) -> None:
    before, after = dcmread(io.BytesIO(content)), sent(tmp_path, content, syntax)
    assert after.file_meta.TransferSyntaxUID == syntax
    assert after.SOPInstanceUID == before.SOPInstanceUID
    if "Rows" in before and "PixelData" in before:
        assert np.array_equal(after.pixel_array, before.pixel_array)
    kept = [element for element in before if element.tag.group < 0x7FE0 and element.tag.group != 0x0002]
    assert {element.tag for element in after} >= {element.tag for element in kept}


def test_colours_are_not_converted(tmp_path: Path) -> None:
    """Of what was compressed with a loss no more is lost: YBR stays YBR."""
    content = example("SC_rgb_small_odd_jpeg.dcm")
    before, after = dcmread(io.BytesIO(content)), sent(tmp_path, content, ExplicitVRLittleEndian)
    before.pixel_array_options(raw=True)
    after.pixel_array_options(raw=True)
    assert after.PhotometricInterpretation == "YBR_FULL"
    assert np.array_equal(after.pixel_array, before.pixel_array)
    assert after.get("LossyImageCompression") == before.get("LossyImageCompression")


def test_what_the_peer_takes_goes_as_it_is(tmp_path: Path) -> None:
    content = example("MR_small_RLE.dcm")
    with receiver(RLELossless, ExplicitVRLittleEndian) as (port, got):
        receipt = send(port, tmp_path, content)
    assert receipt.summary == "1 instances stored at RECEIVER"
    assert dcmread(io.BytesIO(got[0])).PixelData == dcmread(io.BytesIO(content)).PixelData


def test_what_was_decompressed_is_told(tmp_path: Path) -> None:
    with receiver(ImplicitVRLittleEndian) as (port, _):
        receipt = send(port, tmp_path, ct(1), rle(image(pixels(), SOPInstanceUID="1.2.3.4")))
    assert receipt.summary == "2 instances stored at RECEIVER (2 in another transfer syntax)"


def test_nothing_is_compressed_for_a_peer(tmp_path: Path) -> None:
    with receiver(JPEGBaseline8Bit, ExplicitVRBigEndian) as (port, got):
        with pytest.raises(FinalDeliveryError, match="accepts none"):
            send(port, tmp_path, ct(1))
    assert got == []


def test_pixels_that_cannot_be_decoded_are_final(tmp_path: Path) -> None:
    broken = dcmread(io.BytesIO(example("MR_small_RLE.dcm")))
    broken.Rows = 60_000
    broken.Columns = 60_000
    file = io.BytesIO()
    broken.save_as(file)
    with receiver(ExplicitVRLittleEndian) as (port, got):
        with pytest.raises(FinalDeliveryError, match="0 of 1 stored; the peer takes no"):
            send(port, tmp_path, file.getvalue())
    assert got == []


def test_frames_that_cannot_be_found_are_final(tmp_path: Path) -> None:
    lying = dcmread(io.BytesIO(rle(image(pixels()))))
    lying.NumberOfFrames = 7
    file = io.BytesIO()
    lying.save_as(file)
    with receiver(ExplicitVRLittleEndian) as (port, got):
        with pytest.raises(FinalDeliveryError, match="the frames cannot be found"):
            send(port, tmp_path, file.getvalue())
    assert got == []


def test_single_bits_that_become_bytes_are_final(tmp_path: Path) -> None:
    """Codecs give a byte for each: written so, the header would say eight times as many pixels."""
    bits = (np.arange(1024).reshape(1, 32, 32) % 3 == 0).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(bits[0]).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    made = image(bits, BitsAllocated=1, BitsStored=1, HighBit=0)
    made.add_new("PixelData", "OB", encapsulate([stream.getvalue()]))
    made["PixelData"].is_undefined_length = True
    with receiver(ExplicitVRLittleEndian) as (port, got):
        with pytest.raises(FinalDeliveryError, match="not the size that its header says"):
            send(port, tmp_path, part10(made, JPEG2000Lossless))
    assert got == []


@pytest.mark.peers
@pytest.mark.parametrize("option", ["+xi", "+xe"])
def test_dcmtk_that_takes_no_compression(tmp_path: Path, option: str) -> None:
    content = example("MR_small_RLE.dcm")
    with run_storescp(options=[option]) as peer:
        send(peer.port, tmp_path, content, called=peer.ae_title)
        [stored] = peer.files()
        after = dcmread(stored)
    assert np.array_equal(after.pixel_array, dcmread(io.BytesIO(content)).pixel_array)
    assert not after.file_meta.TransferSyntaxUID.is_compressed
