# SPDX-License-Identifier: Apache-2.0
"""Command line of the phantoms: write one study into a folder, print its truth as one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from conformance.phantoms.chest import ChestPhantom, Plane, make_ct_chest
from conformance.phantoms.ct_files import (
    series_instance_uid,
    sop_instance_uids,
    study_instance_uid,
    write_series,
)
from profiles.uids import is_uid


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m conformance.phantoms", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    chest = kinds.add_parser("ct-chest", help="CT of a chest with lungs of known volume")
    default = ChestPhantom()
    chest.add_argument("--out", type=Path, required=True, help="folder for the files")
    chest.add_argument("--slices", type=int, default=default.shape[0])
    chest.add_argument("--size", type=int, default=default.shape[1], help="rows and columns")
    chest.add_argument("--seed", type=int, default=default.seed)
    chest.add_argument("--plane", type=Plane, choices=list(Plane), default=default.plane)
    chest.add_argument("--reversed", action="store_true", help="instance numbers against the slice normal")
    chest.add_argument("--gantry-tilt", type=float, default=0.0, metavar="DEGREES")
    chest.add_argument("--emphysema", type=float, default=default.emphysema_percent, metavar="PERCENT")
    chest.add_argument("--patient-id", default=default.patient_id)
    chest.add_argument("--patient-name", default=default.patient_name)
    chest.add_argument("--issuer", default=default.issuer_of_patient_id, help="issuer of the patient id")
    chest.add_argument("--birth-date", default=default.patient_birth_date)
    chest.add_argument("--sex", choices=["M", "F", "O"], default=default.patient_sex)
    chest.add_argument("--accession", default=default.accession_number)
    chest.add_argument("--study-description", default=default.study_description)
    chest.add_argument("--series-description", default=default.series_description)
    chest.add_argument("--study-uid", default="")
    chest.add_argument("--truth-masks", type=Path, help="npz file for the lungs' mask, by SOP Instance UID")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the phantom and its truth; the exit status is 0, or 2 for impossible arguments."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.study_uid and not is_uid(given.study_uid):
        parser.error("--study-uid is not a well-formed UID")
    spec = ChestPhantom(
        seed=given.seed,
        shape=(given.slices, given.size, given.size),
        plane=given.plane,
        reversed_order=given.reversed,
        gantry_tilt_deg=given.gantry_tilt,
        emphysema_percent=given.emphysema,
        patient_id=given.patient_id,
        patient_name=given.patient_name,
        issuer_of_patient_id=given.issuer,
        patient_birth_date=given.birth_date,
        patient_sex=given.sex,
        accession_number=given.accession,
        study_description=given.study_description,
        series_description=given.series_description,
        study_instance_uid=given.study_uid,
    )
    try:
        series = make_ct_chest(spec)
    except ValueError as error:
        parser.error(str(error))
    files = write_series(series, given.out)
    if given.truth_masks:
        lungs = series.left | series.right
        np.savez_compressed(given.truth_masks, lungs=lungs, sop_instance_uids=sop_instance_uids(series))
    truth = {
        "study_instance_uid": study_instance_uid(series),
        "series_instance_uid": series_instance_uid(series),
        "files": len(files),
        "left_ml": round(series.left_ml, 2),
        "right_ml": round(series.right_ml, 2),
        "total_ml": round(series.total_ml, 2),
        "emphysema_percent": round(series.emphysema_percent, 3),
        "emphysema_voxel_percent": round(series.emphysema_voxel_percent, 3),
        "mean_hu": round(series.mean_hu, 2),
    }
    sys.stdout.write(json.dumps(truth) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
