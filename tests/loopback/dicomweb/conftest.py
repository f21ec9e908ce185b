# SPDX-License-Identifier: Apache-2.0
"""The DICOMweb doors over a folder, on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI

from informatics_gateway.dicomweb import qido_rs, stow_rs, wado_rs
from informatics_gateway.http_server import HttpServer
from tests.instances import FolderIntake


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve `app` and yield its address."""
    server = HttpServer(app, "127.0.0.1", 0, drain_s=1)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def intake(tmp_path: Path) -> FolderIntake:
    return FolderIntake(tmp_path / "store")


@pytest.fixture
def dicom_web_url(intake: FolderIntake) -> Iterator[str]:
    app = FastAPI()
    for routes in (stow_rs.router(intake), wado_rs.router(intake), qido_rs.router(intake)):
        app.include_router(routes)
    with serving(app) as url:
        yield f"{url}/dicom-web"
