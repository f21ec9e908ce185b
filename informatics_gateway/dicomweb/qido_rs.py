# SPDX-License-Identifier: Apache-2.0
"""QIDO-RS: searching the studies, series and instances that are stored here.

Keys that are not in the tables below are not matched on and named in a Warning header. No match is answered
204 without a body, as PS3.18 table 10.6.3-1 has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydicom.datadict import keyword_for_tag

from informatics_gateway.dicomweb.media import DICOM_JSON, accepts_json, parse_accept
from profiles.dicom_json import DicomJson, element, merged, tag_key, values
from profiles.uids import is_uid
from task_manager.ports import InstanceArchive
from task_manager.study.model import Instance

MAX_LIMIT = 5000
DEFAULT_LIMIT = 1000
MAX_OFFSET = 2**31

STUDY_KEYS = frozenset(
    (
        *("StudyDate", "StudyTime", "AccessionNumber", "ModalitiesInStudy", "ReferringPhysicianName"),
        *("PatientName", "PatientID", "StudyInstanceUID", "StudyID"),
    )
)
SERIES_KEYS = frozenset(("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"))
INSTANCE_KEYS = frozenset(
    ("SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Modality", "SeriesInstanceUID")
)

_INSTANCE_RETURN = (
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "InstanceNumber"),
    *("SpecificCharacterSet", "Rows", "Columns", "BitsAllocated", "NumberOfFrames"),
)
_CONTROLS = frozenset(("limit", "offset", "includefield", "fuzzymatching", "accept"))


def router(archive: InstanceArchive, *, prefix: str = "/dicom-web") -> APIRouter:
    """The Search transaction (PS3.18 10.6) under studies: ``/studies``, their series and their instances.

    Answers: 200 with matches; 204 without; 400 a bad UID, limit or offset; 406 no DICOM JSON accepted.
    """
    routes = APIRouter(prefix=prefix, tags=["QIDO-RS"])

    @routes.get("/studies")
    def search_studies(request: Request) -> Response:
        query = _Query(request, STUDY_KEYS)
        if query.problem:
            return query.problem
        found = archive.find_studies(query.matching, offset=query.offset, limit=query.limit + 1)
        return query.answer(found, lambda item: f"{prefix}/studies/{_uid(item, 'StudyInstanceUID')}")

    @routes.get("/studies/{study}/series")
    def search_series(request: Request, study: str) -> Response:
        query = _Query(request, SERIES_KEYS, study)
        if query.problem:
            return query.problem
        found = query.page(archive.find_series(study, query.matching))
        address = f"{prefix}/studies/{study}/series/"
        return query.answer(found, lambda item: address + _uid(item, "SeriesInstanceUID"))

    @routes.get("/studies/{study}/instances")
    def search_instances_of_study(request: Request, study: str) -> Response:
        return search_instances(request, study, "")

    @routes.get("/studies/{study}/series/{series}/instances")
    def search_instances_of_series(request: Request, study: str, series: str) -> Response:
        return search_instances(request, study, series)

    def search_instances(request: Request, study: str, series: str) -> Response:
        query = _Query(request, INSTANCE_KEYS, study, series)
        if query.problem:
            return query.problem
        stored = archive.find_instances(study_instance_uid=study, series_instance_uid=series)
        matches = [item for item in stored if _matches(item.attributes, query.matching)]
        found = [_instance_answer(item, query.include) for item in query.page(matches)]
        return query.answer(
            found,
            lambda item: (
                f"{prefix}/studies/{study}/series/{_uid(item, 'SeriesInstanceUID')}"
                f"/instances/{_uid(item, 'SOPInstanceUID')}"
            ),
        )

    return routes


class _Query:
    """The query parameters of one request; `problem` is the answer when they cannot be used."""

    def __init__(self, request: Request, keys: frozenset[str], *uids: str) -> None:
        self.matching: dict[str, str] = {}
        self.include: frozenset[str] = frozenset()
        self.limit, self.offset = DEFAULT_LIMIT, 0
        self.problem: Response | None = None
        self._base = str(request.base_url).rstrip("/")
        self._warnings: list[str] = []
        if not accepts_json(parse_accept(request.headers.get("accept", ""))):
            self.problem = Response(status_code=406)
        elif not all(is_uid(uid) for uid in uids if uid):
            self.problem = _bad("a UID in the URL is none")
        else:
            self._read(request, keys)

    def _read(self, request: Request, keys: frozenset[str]) -> None:
        included: set[str] = set()
        for name, value in request.query_params.multi_items():
            if not value.isprintable():
                self.problem = _bad("a value holds control characters")
                return
            if name in ("limit", "offset"):
                if not (
                    value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= MAX_OFFSET
                ):
                    self.problem = _bad(f"{name} is not a number in range")
                    return
                setattr(self, name, min(int(value), MAX_LIMIT) if name == "limit" else int(value))
            elif name == "includefield":
                included.update(_keyword(field) or field for field in value.split(","))
            elif name == "fuzzymatching" and value == "true":
                self._warnings.append(
                    "The fuzzymatching parameter is not supported. Only literal matching has been performed."
                )
            elif name not in _CONTROLS:
                keyword = _keyword(name)
                if keyword in keys:
                    if value and value != "*":
                        self.matching[keyword] = value
                elif keyword:
                    self._warnings.append(f"{keyword} is not matched on at this level")
        self.include = frozenset(included)

    def page(self, found: Sequence[Any]) -> Sequence[Any]:
        """One more than the page, so that :meth:`answer` knows whether more exist."""
        return found[self.offset : self.offset + self.limit + 1]

    def answer(self, found: Sequence[DicomJson], address: Callable[[DicomJson], str]) -> Response:
        """The matches of `found` that fit the limit, each with its retrieve URL."""
        warnings = list(self._warnings)
        if len(found) > self.limit:
            warnings.append("There are additional results that can be requested")
        headers = (
            {"Warning": ", ".join(f'299 {self._base} "{text}"' for text in warnings)} if warnings else None
        )
        shown = found[: self.limit]
        if not shown:
            return Response(status_code=204, headers=headers)
        content = [merged((item, element("RetrieveURL", self._base + address(item)))) for item in shown]
        return Response(orjson.dumps(content), media_type=DICOM_JSON, headers=headers)


def _instance_answer(instance: Instance, include: frozenset[str]) -> DicomJson:
    wanted = {tag_key(keyword) for keyword in _INSTANCE_RETURN}
    wanted |= {tag_key(keyword) for keyword in include if keyword != "all" and _keyword(keyword)}
    found = {key: value for key, value in instance.attributes.items() if key in wanted or "all" in include}
    return merged(
        (
            found,
            element("InstanceAvailability", "ONLINE"),
            element("AvailableTransferSyntaxUID", instance.transfer_syntax_uid),
        )
    )


def _matches(attributes: DicomJson, matching: Mapping[str, str]) -> bool:
    return all(_matches_key(values(attributes, keyword), wanted) for keyword, wanted in matching.items())


def _matches_key(found: Sequence[Any], wanted: str) -> bool:
    """Single value, UID list or wildcard matching (PS3.4 C.2.2.2), of any of the values found."""
    options = re.split(r"[,\\]", wanted)
    patterns = [
        re.compile("".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in option), re.DOTALL)
        for option in options
    ]
    return any(pattern.fullmatch(str(value)) for pattern in patterns for value in found)


def _keyword(name: str) -> str:
    """The keyword of an attribute given by keyword or by tag; empty if there is none such."""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", name):
        return keyword_for_tag(int(name, 16))
    try:
        tag_key(name)
    except KeyError:
        return ""
    return name


def _uid(item: DicomJson, keyword: str) -> str:
    found = values(item, keyword)
    return str(found[0]) if found else ""


def _bad(message: str) -> Response:
    return Response(message, status_code=400, media_type="text/plain")
