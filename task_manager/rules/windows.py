# SPDX-License-Identifier: Apache-2.0
"""Time windows of rules: read from YAML, and asked of the moment at which a study began to arrive.

That moment and not the present one: a study that is looked at again, late or in a replay, gets the same
answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from task_manager.rules.explain import ConditionOutcome
from task_manager.rules.model import Verdict, Window
from task_manager.rules.nodes import Entry, FaultList

DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
WINDOW_KEYS = ("days", "from", "to", "since", "until")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)|(24):(00)", re.ASCII)


def read_zone(entry: Entry, faults: FaultList) -> str:
    """The name of a time zone; UTC after a fault."""
    name = entry.text(faults)
    try:
        _zone(name)
    except (OSError, ValueError, KeyError):
        faults.add(entry, f"there is no time zone {name[:60]!r} here; write one as Europe/Berlin")
        return "UTC"
    return name


def read_window(entry: Entry, zone: str, faults: FaultList) -> Window:
    """One window: any of days, from, to, since, until."""
    keys = entry.mapping(faults, WINDOW_KEYS)
    if not keys and entry.is_mapping and not entry.node.value:
        faults.add(entry, f"the window is empty; give some of {', '.join(WINDOW_KEYS)}")
    days = _days(keys["days"], faults) if "days" in keys else ()
    begin, end = (_minute(keys[key], faults) if key in keys else None for key in ("from", "to"))
    since, until = (_date(keys[key], faults) if key in keys else None for key in ("since", "until"))
    if since and until and until < since:
        faults.add(keys["until"], "before since")
    if begin is not None and begin == end:
        faults.add(keys["to"], "the same as from: leave both out for the whole day")
    written = (
        f"{key} {keys[key].text(faults)}" for key in WINDOW_KEYS if key in keys and not keys[key].is_sequence
    )
    listed = (
        [f"on {', '.join(DAYS[day] for day in days)}"] if "days" in keys and keys["days"].is_sequence else []
    )
    return Window(
        days=days,
        begin_minute=begin,
        end_minute=end,
        since=since,
        until=until,
        zone=zone,
        text=" ".join([*listed, *written]) + f" ({zone})",
    )


def windows_outcome(windows: Sequence[Window], moment: datetime) -> ConditionOutcome:
    """Whether `moment` (aware) lies in one of the windows; without any it does."""
    parts = []
    for window in windows:
        local = moment.astimezone(_zone(window.zone))
        parts.append(
            ConditionOutcome(
                asked=f"arrived {window.text}",
                verdict=Verdict.TRUE if _holds(window, local) else Verdict.FALSE,
                seen=(f"{DAYS[local.weekday()]} {local:%Y-%m-%d %H:%M}",),
            )
        )
    if len(parts) == 1:
        return parts[0]
    inside = not parts or any(part.verdict is Verdict.TRUE for part in parts)
    return ConditionOutcome(
        asked="any of" if parts else "always",
        verdict=Verdict.TRUE if inside else Verdict.FALSE,
        parts=tuple(parts),
    )


def _holds(window: Window, local: datetime) -> bool:
    minute = local.hour * 60 + local.minute
    begin = window.begin_minute or 0
    end = 24 * 60 if window.end_minute is None else window.end_minute
    if begin < end:
        return begin <= minute < end and _on_day(window, local.date())
    if minute >= begin:
        return _on_day(window, local.date())
    return minute < end and _on_day(window, local.date() - timedelta(days=1))


def _on_day(window: Window, day: date) -> bool:
    return (
        (not window.days or day.weekday() in window.days)
        and (window.since is None or window.since <= day)
        and (window.until is None or day <= window.until)
    )


def _days(entry: Entry, faults: FaultList) -> tuple[int, ...]:
    """Days as written: ``MON-FRI``, ``SAT``, or a list of such."""
    found: set[int] = set()
    for one in entry.sequence(faults) if entry.is_sequence else (entry,):
        first, _, last = one.text(faults).upper().partition("-")
        if first not in DAYS or (last and last not in DAYS):
            faults.add(one, f"must be one of {', '.join(DAYS)} or a span as MON-FRI")
            continue
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found.update(day % 7 for day in range(begin, (end if end >= begin else end + 7) + 1))
    return tuple(sorted(found))


def _minute(entry: Entry, faults: FaultList) -> int | None:
    found = _CLOCK.fullmatch(entry.text(faults))
    if found is None:
        faults.add(entry, "must be a time of day as 07:30")
        return None
    hour, minute = (part for part in found.groups() if part is not None)
    return int(hour) * 60 + int(minute)


def _date(entry: Entry, faults: FaultList) -> date | None:
    try:
        return date.fromisoformat(entry.text(faults))
    except ValueError:
        faults.add(entry, "must be a date as 2026-01-31")
        return None


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
