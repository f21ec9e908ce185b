# SPDX-License-Identifier: Apache-2.0
"""The operators' log: one line per fact on standard error, as JSON or as text.

Modules log with :mod:`logging`, a constant message and facts in ``extra``; nothing about a patient is logged.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from informatics_gateway.settings import LogSettings
from task_manager.errors import AirwayError, facts_of

_MOST_ERRORS = 5


def _tell_without_values(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Kind and place of each error of a chain in place of a traceback: texts may hold values of patients.

    The text of an error of our own is kept: it never does.
    """
    del logger, method
    told = event.pop("exc_info", None)
    error = told[1] if isinstance(told, tuple) else told
    chain: list[dict[str, object]] = []
    while isinstance(error, BaseException) and len(chain) < _MOST_ERRORS:
        text = {"text": str(error)} if isinstance(error, AirwayError) else {}
        chain.append({**facts_of(error), **text})
        error = error.__cause__ or error.__context__
    if chain:
        event["errors"] = chain
    return event


def configure_logging(settings: LogSettings) -> None:
    """Send all log records to standard error in the configured form."""
    renderer = (
        structlog.processors.JSONRenderer()
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ExtraAdder(),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _tell_without_values,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    for noisy in (
        "httpx",
        "httpcore",
        "uvicorn.access",
        "pynetdicom",
        "pydicom",
        "alembic",
        "dicomweb_client",
    ):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    # An error for every six bytes of garbage, a traceback for every lost connection (pynetdicom 3.0.4): a
    # stranger could fill the disk. The DICOM door tells once of each connection it ends.
    logging.getLogger("pynetdicom.dul").setLevel(logging.CRITICAL)
