# SPDX-License-Identifier: Apache-2.0
"""What the disk is like, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from task_manager.space import SpaceState


class DiskMetrics:
    """Reads what the disk is like when asked; tells nothing where nobody looks after it."""

    def __init__(self, report: Callable[[], Mapping[str, Any]]) -> None:
        self._report = report

    def collect(self) -> list[Metric]:
        """Bytes, the state, what was refused, what waits to be summed and what is damaged."""
        found = self._report()
        if not found:
            return []
        space = GaugeMetricFamily("airway_disk_bytes", "Bytes of the disk by what they are", labels=["kind"])
        for kind in ("free", "total", "used", "promised", "left"):
            value = found[f"{kind}_bytes"]
            if value is not None:
                space.add_metric([kind], value)
        state = GaugeMetricFamily("airway_disk_state", "1 for the state the disk is in", labels=["state"])
        for one in SpaceState:
            state.add_metric([one.value], float(found["state"] == one.value))
        damaged = GaugeMetricFamily(
            "airway_objects_damaged", "Files that are not as their records say", labels=["kind"]
        )
        for kind, number in found["damaged"].items():
            damaged.add_metric([kind], number)
        return [
            space,
            state,
            damaged,
            CounterMetricFamily(
                "airway_disk_refused", "Objects this process refused for want of room", value=found["refused"]
            ),
            GaugeMetricFamily(
                "airway_objects_unsummed", "Objects that wait to be summed", value=found["unsummed"]
            ),
        ]
