# SPDX-License-Identifier: Apache-2.0
"""Small images of known pixels for the tests of WADO-RS, and a client of a door that holds them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import RLELossless

from informatics_gateway.dicomweb.media import parse_media_type
from informatics_gateway.dicomweb.wado_rs import router
from profiles.multipart import MultipartParser, PartBegan, PartData
from task_manager.actor import Actor
from tests.asgi import AsgiClient
from tests.instances import STUDY, FolderIntake, ct_data_set, part10

URL = f"/dicom-web/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1"


def pixels(frames: int = 3, rows: int = 4, columns: int = 6) -> NDArray[np.uint16]:
    """Values that tell frame, row and column."""
    return np.arange(frames * rows * columns, dtype=np.uint16).reshape(frames, rows, columns) * 10


def image(values: NDArray[Any], **changes: Any) -> Dataset:
    """The image of frames x rows x columns (x 3 for RGB), 8 or 16 bits."""
    made = ct_data_set(1, Rows=values.shape[1], Columns=values.shape[2], NumberOfFrames=len(values))
    made.BitsAllocated = made.BitsStored = values.dtype.itemsize * 8
    made.HighBit = made.BitsStored - 1
    if values.ndim == 4:
        made.SamplesPerPixel = 3
        made.PlanarConfiguration = 0
        made.PhotometricInterpretation = "RGB"
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    content = values.tobytes()
    made.add_new(0x7FE00010, "OW", content + b"\0" * (len(content) % 2))
    return made


def rle(made: Dataset) -> bytes:
    """The file of an image, compressed without loss."""
    compressed = dcmread(io.BytesIO(part10(made)))
    compressed.compress(RLELossless, generate_instance_uid=False)
    file = io.BytesIO()
    dcmwrite(file, compressed, enforce_file_format=True)
    return file.getvalue()


def client_of(folder: Path, *files: bytes) -> AsgiClient:
    """A client of a door that holds `files`."""
    archive = FolderIntake(folder)
    for content in files:
        staged = archive.stage()
        staged.write(content)
        archive.receive_instance(staged, actor=Actor(door="dicom"))
    app = FastAPI()
    app.include_router(router(archive))
    return AsgiClient(app)


def parts(content_type: str, body: bytes) -> list[tuple[str, bytes]]:
    """Content type and content of each part."""
    boundary = parse_media_type(content_type).parameter("boundary")
    parser = MultipartParser(boundary, max_parts=100, max_part_bytes=1 << 24)
    found: list[tuple[str, bytes]] = []
    for event in parser.feed(body):
        match event:
            case PartBegan(headers):
                found.append((headers["content-type"], b""))
            case PartData(data):
                found[-1] = (found[-1][0], found[-1][1] + data)
    parser.close()
    return found
