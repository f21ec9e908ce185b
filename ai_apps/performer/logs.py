# SPDX-License-Identifier: Apache-2.0
"""Log records as one JSON object a line: time, level, logger, message, and the record's facts."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats records; facts given as ``extra`` become keys of their own.

    An exception is told by kind and places only: its text may hold values of a patient.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        document = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _STANDARD},
        }
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            frames = traceback.extract_tb(error.__traceback__)[-5:]
            places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames]
            document["exception"] = {"error": type(error).__name__, "where": places}
        return json.dumps(document, ensure_ascii=False, default=str)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send all records of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines hold whole URLs
