# SPDX-License-Identifier: Apache-2.0
"""Log lines: JSON with the facts as keys."""

from __future__ import annotations

import json
import logging
import sys

from ai_apps.performer.logs import JsonFormatter


def test_facts_become_keys() -> None:
    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "done", "created": 0.0, "action": "a.b", "count": 2}
    )
    assert json.loads(JsonFormatter().format(record)) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "info",
        "logger": "n",
        "message": "done",
        "action": "a.b",
        "count": 2,
    }


def test_an_exception_is_told_by_kind_and_place_without_its_text() -> None:
    try:
        raise ValueError("Doe^Jane\ny")
    except ValueError:
        record = logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "Doe" not in line
    told = json.loads(line)["exception"]
    assert told["error"] == "ValueError"
    assert told["where"][0].startswith("test_logs.py:")
