# SPDX-License-Identifier: Apache-2.0
"""Phantoms: studies made by code whose right answer is known. They hold no patient.

``python -m conformance.phantoms ct-chest --out DIR`` writes one and prints its truth.
"""

from __future__ import annotations

from conformance.phantoms.chest import ChestPhantom, PhantomSeries, Plane, make_ct_chest
from conformance.phantoms.ct_files import (
    datasets,
    series_instance_uid,
    sop_instance_uids,
    study_instance_uid,
    write_series,
)

__all__ = [
    "ChestPhantom",
    "PhantomSeries",
    "Plane",
    "datasets",
    "make_ct_chest",
    "series_instance_uid",
    "sop_instance_uids",
    "study_instance_uid",
    "write_series",
]
