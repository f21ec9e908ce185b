# SPDX-License-Identifier: Apache-2.0
"""The operators' log: errors are told with kind and place, and with no text of others."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest
from pydicom import Dataset

from informatics_gateway.logs import configure_logging
from informatics_gateway.settings import LogSettings
from task_manager.errors import StoreError


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    with warnings.catch_warnings():
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


def test_warnings_of_libraries_are_told_without_the_values_they_quote(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warnings.resetwarnings()
    configure_logging(LogSettings.model_validate({"format": "json"}))
    for number in range(3):
        Dataset().PatientSex = f"Doe^Jane {number}"
    logging.getLogger("pydicom").error("Error while processing Doe^Jane")
    told = capsys.readouterr().err
    assert told.count("a library warned") == 1
    assert "valuerep.py:" in told
    assert "Doe" not in told
