# SPDX-License-Identifier: Apache-2.0
"""The operators' log: one line per fact on standard error, as JSON or as text.

Modules log with :mod:`logging`, a constant message and facts in ``extra``; nothing about a patient is logged.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog

from informatics_gateway.settings import LogSettings
from task_manager.errors import AirwayError, facts_of

_LOG = logging.getLogger(__name__)
_MOST_ERRORS = 5
_MOST_PLACES = 1000
_WARNED: set[tuple[str, int]] = set()
"""Places whose warning was told: bad values warn once for each value, and there is no end of them."""


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


def _tell_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of a library, once for each place and without its text: pydicom quotes the values it met."""
    del message, file, line
    place = (filename, lineno)
    if place in _WARNED or len(_WARNED) >= _MOST_PLACES:
        return
    _WARNED.add(place)
    extra = {
        "action": "library.warning",
        "kind": category.__name__,
        "place": f"{Path(filename).name}:{lineno}",
    }
    _LOG.warning("a library warned", extra=extra)


def configure_logging(settings: LogSettings) -> None:
    """Send all log records, and warnings without their text, to standard error in the configured form."""
    warnings.showwarning = _tell_warning
    # after all other filters: those that remember every text they have seen would remember values for ever
    warnings.simplefilter("always", UserWarning, append=True)
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
        "alembic",
        "dicomweb_client",
    ):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    # Its messages hold values; who calls it tells what became of it.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    # An error for every six bytes of garbage, a traceback for every lost connection (pynetdicom 3.0.4): a
    # stranger could fill the disk. The DICOM door tells once of each connection it ends.
    logging.getLogger("pynetdicom.dul").setLevel(logging.CRITICAL)
