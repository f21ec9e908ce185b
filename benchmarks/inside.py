# SPDX-License-Identifier: Apache-2.0
"""Steps that every study goes through, called in process, beside another library or the least work possible.

References do the same to the same bytes: pydicom, or the one unavoidable operation (packing bits, writing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from pydicom import dcmread

from ai_apps.catalog import catalog
from ai_apps.imaging.series import SeriesRules, read_series
from ai_apps.imaging.volume import read_volume
from benchmarks.figures import Figure, milliseconds, sample
from profiles import codes
from profiles.air.model import AlgorithmIdentity, Analysis, Measurement, Region, ResultContext
from profiles.air.seg import encode_segmentation
from profiles.air.sr import encode_report
from task_manager.outcome import Refused
from task_manager.rules.evaluate import Evaluator
from task_manager.rules.parse import load_rules
from task_manager.study.assembly import study_attributes
from task_manager.study.header import read_header
from task_manager.study.model import InstanceHeader, Series, Study, StudyState

GROUP = "in process"
_EVALUATIONS = 200


def measure_inside(paths: Sequence[Path], *, runs: int) -> list[Figure]:
    """The figures for one series in `paths`; each step runs once more before it is measured."""
    return [
        _headers(paths, runs),
        _rules(paths[0], runs),
        _stacking(paths, runs),
        *_encoding(paths, runs),
    ]


def _headers(paths: Sequence[Path], runs: int) -> Figure:
    """The header that is kept of every instance, with all its checks."""
    return _figure(
        "header read, one instance",
        lambda: [read_header(path) for path in paths],
        "pydicom, read without pixels, to JSON",
        lambda: [dcmread(path, stop_before_pixels=True).to_json_dict() for path in paths],
        runs,
        each=len(paths),
    )


def _rules(path: Path, runs: int) -> Figure:
    """The rules that ship, over a study of ten series as it lies in the store."""
    header = read_header(path)
    if isinstance(header, Refused):
        raise TypeError("the phantom is refused")
    rules = load_rules(
        Path(str(files("informatics_gateway") / "defaults" / "rules")), apps=list(catalog()), destinations=[]
    )
    evaluator = Evaluator(rules)
    study = _study(header)
    stored = [orjson.dumps(series.attributes) for series in study.series]
    return _figure(
        "rules, one study of ten series",
        lambda: [evaluator.explain(study, None) for _ in range(_EVALUATIONS)],
        "parsing its stored headers",
        lambda: [[orjson.loads(text) for text in stored] for _ in range(_EVALUATIONS)],
        runs,
        each=_EVALUATIONS,
    )


def _study(header: InstanceHeader) -> Study:
    now = datetime(2026, 3, 2, 9, tzinfo=UTC)
    series = tuple(
        Series(
            series_instance_uid=f"{header.series_instance_uid[:-2]}{number}",
            attributes=header.attributes,
            sop_class_uids=(header.sop_class_uid,),
            number_of_instances=200,
        )
        for number in range(10, 20)
    )
    return Study(
        study_instance_uid=header.study_instance_uid,
        state=StudyState.COMPLETE,
        revision=1,
        attributes=study_attributes(header.attributes),
        series=series,
        first_received_at=now,
        last_received_at=now,
        deadline_at=None,
        completed_at=now,
    )


def _stacking(paths: Sequence[Path], runs: int) -> Figure:
    """Files in any order to one checked volume in Hounsfield units."""

    def plain() -> NDArray[np.float32]:
        images = [dcmread(path) for path in paths]
        images.sort(key=lambda image: float(image.ImagePositionPatient[2]))
        return np.stack(
            [
                image.pixel_array * np.float32(image.RescaleSlope) + np.float32(image.RescaleIntercept)
                for image in images
            ]
        )

    return _figure(
        "volume stacked from files",
        lambda: read_volume(read_series(paths, SeriesRules(maximum_step_mm=20.0))),
        "pydicom and numpy, unchecked",
        plain,
        runs,
    )


def _encoding(paths: Sequence[Path], runs: int) -> list[Figure]:
    series = read_series(paths, SeriesRules(maximum_step_mm=20.0))
    sources = list(series.headers)
    analysis = _analysis(series.sop_instance_uids, series.shape)
    context = ResultContext(
        workitem_uid="2.25.1", performed_at=datetime(2026, 3, 2, 9, tzinfo=UTC), station_name="BENCH"
    )
    segmentation = encode_segmentation(analysis, context, sources)
    report = encode_report(analysis, context, sources, segmentation)
    masks = [region.mask for region in analysis.regions]

    def pack() -> list[NDArray[np.uint8]]:
        return [np.packbits(frame, bitorder="little") for mask in masks for frame in mask if frame.any()]

    def encode() -> None:
        built = encode_segmentation(analysis, context, sources)
        assert built is not None
        built.save_as(BytesIO(), enforce_file_format=True)

    return [
        _figure(
            "SEG of 3 segments, built and written", encode, "numpy.packbits of its frames alone", pack, runs
        ),
        _figure(
            "SR of 3 groups, built and written",
            lambda: encode_report(analysis, context, sources, segmentation).save_as(
                BytesIO(), enforce_file_format=True
            ),
            "pydicom writing the same report",
            lambda: report.save_as(BytesIO(), enforce_file_format=True),
            runs,
        ),
    ]


def _analysis(uids: tuple[str, ...], shape: tuple[int, int, int]) -> Analysis:
    """Three boxes that fill a lung's share of half of the slices, each with two numbers."""
    slices, rows, columns = shape
    regions = []
    for number in range(3):
        mask = np.zeros(shape, dtype=np.bool_)
        mask[
            slices // 4 : slices * 3 // 4,
            rows // 4 : rows * 3 // 4,
            columns * (1 + number) // 5 : columns * (2 + number) // 5 - 1,
        ] = True
        voxels = float(mask.sum())
        regions.append(
            Region(
                mask=mask,
                label=f"Box {number + 1}",
                category=codes.ANATOMICAL_STRUCTURE,
                type=codes.LUNG,
                measurements=(
                    Measurement(name=codes.VOLUME, value=voxels / 1000, unit=codes.MILLILITRE),
                    Measurement(
                        name=codes.MEAN_ATTENUATION,
                        value=-800.0,
                        unit=codes.HOUNSFIELD_UNIT,
                        derivation=codes.MEAN,
                    ),
                ),
            )
        )
    algorithm = AlgorithmIdentity(
        manufacturer="Airway project", name="boxes", version="1", weights_sha256="00" * 32
    )
    return Analysis(algorithm=algorithm, sop_instance_uids=uids, regions=tuple(regions))


def _figure(
    name: str,
    airway: Callable[[], object],
    reference_name: str,
    reference: Callable[[], object],
    runs: int,
    *,
    each: int = 1,
) -> Figure:
    airway()
    reference()
    pairs = [(milliseconds(airway) / each, milliseconds(reference) / each) for _ in range(runs)]
    return Figure(
        group=GROUP,
        name=name,
        unit="ms",
        airway=sample([ours for ours, _ in pairs]),
        reference_name=reference_name,
        reference=sample([other for _, other in pairs]),
    )
