# SPDX-License-Identifier: Apache-2.0
"""The operators' log: errors are told with kind and place, and with no text of others."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from informatics_gateway.logs import configure_logging
from informatics_gateway.settings import LogSettings
from task_manager.errors import StoreError


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def fail() -> None:
    try:
        raise ValueError("Doe^Jane")
    except ValueError as error:
        raise StoreError("the disk is full") from error


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_error_is_told_without_values(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(LogSettings.model_validate({"format": form}))
    try:
        fail()
    except StoreError:
        logging.getLogger("airway").exception("store failed", extra={"action": "test.failed"})
    told = capsys.readouterr().err
    for part in (
        "store failed",
        "test.failed",
        "StoreError",
        "the disk is full",
        "ValueError",
        "test_logs.py:",
    ):
        assert part in told
    assert "Doe" not in told
