# SPDX-License-Identifier: Apache-2.0
"""QIDO-RS: searching the studies, series and instances that are stored here.

Translates only: ``qido_query.py`` reads the query, the holdings answer it. No match is answered 204 without a
body, as PS3.18 table 10.6.3-1 has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from fastapi import APIRouter, Request, Response

from informatics_gateway.dicomweb.media import DICOM_JSON, DICOM_XML, JSON, MULTIPART, metadata_type
from informatics_gateway.dicomweb.metadata import keyword_for_key
from informatics_gateway.dicomweb.native_xml import write
from informatics_gateway.dicomweb.qido_query import Search, parse_search
from informatics_gateway.dicomweb.retrieval import base_url
from profiles.dicom_json import DicomJson, element, merged, tag_key, text
from profiles.faults import Fault
from profiles.multipart import PART_END, closing, part_head
from profiles.uids import is_uid
from task_manager.study.query import Holdings, Level

MAX_QUERY = 16 * 1024
_ONLINE = element("InstanceAvailability", "ONLINE")
_AVAILABILITY = tag_key("InstanceAvailability")
_BOUNDARY = "airway-search-result"


def router(holdings: Holdings, *, prefix: str = "/dicom-web", public_url: str = "") -> APIRouter:
    """The Search transaction (PS3.18 10.6) at every level, with and without a study or series in the URL.

    Answers: 200 with matches; 204 without; 400 a bad UID or query, with every fault; 406 neither DICOM JSON
    nor XML accepted; 414 a query that is too long.

    Parameters
    ----------
    public_url
        Base URL of the service where it is not the one that clients write, such as behind a proxy.
    """
    routes = APIRouter(prefix=prefix, tags=["QIDO-RS"])

    def search(request: Request, level: Level, study: str = "", series: str = "") -> Response:
        kind = metadata_type(
            request.headers.get("accept", ""), tuple(request.query_params.getlist("accept")[:4])
        )
        if not kind:
            return Response(status_code=406)
        raw = str(request.url.query)
        if len(raw) > MAX_QUERY:
            return _refused(414, (Fault("", f"the query has more than {MAX_QUERY} characters"),))
        if not all(is_uid(uid) for uid in (study, series) if uid):
            return _refused(400, (Fault("", "a UID in the URL is none"),))
        asked = parse_search(raw, level, study=study, series=series)
        if not isinstance(asked, Search):
            return _refused(400, asked)
        base = base_url(request, prefix, public_url)
        return _answer(holdings.search(asked.query), asked, base, kind)

    @routes.get("/studies")
    def search_studies(request: Request) -> Response:
        return search(request, Level.STUDY)

    @routes.get("/series")
    def search_series(request: Request) -> Response:
        return search(request, Level.SERIES)

    @routes.get("/instances")
    def search_instances(request: Request) -> Response:
        return search(request, Level.INSTANCE)

    @routes.get("/studies/{study}/series")
    def search_series_of_study(request: Request, study: str) -> Response:
        return search(request, Level.SERIES, study)

    @routes.get("/studies/{study}/instances")
    def search_instances_of_study(request: Request, study: str) -> Response:
        return search(request, Level.INSTANCE, study)

    @routes.get("/studies/{study}/series/{series}/instances")
    def search_instances_of_series(request: Request, study: str, series: str) -> Response:
        return search(request, Level.INSTANCE, study, series)

    return routes


def _answer(found: Sequence[DicomJson], asked: Search, base: str, kind: str) -> Response:
    warnings = list(asked.warnings)
    if len(found) > asked.page:
        warnings.append("There are additional results that can be requested")
    headers = {"Warning": ", ".join(f"299 {base}: {text}" for text in warnings)} if warnings else None
    shown = [_shown(item, asked, base) for item in found[: asked.page]]
    if not shown:
        return Response(status_code=204, headers=headers)
    if kind in (DICOM_JSON, JSON):
        return Response(orjson.dumps(shown), media_type=kind, headers=headers)
    head = part_head(_BOUNDARY, DICOM_XML)
    parts = b"".join(head + write(item, keyword_for_key) + PART_END for item in shown)
    return Response(
        parts + closing(_BOUNDARY),
        media_type=f'{MULTIPART}; type="{DICOM_XML}"; boundary={_BOUNDARY}',
        headers=headers,
    )


def _shown(item: DicomJson, asked: Search, base: str) -> DicomJson:
    """What of a match is returned, with its availability and the address to retrieve it from."""
    level = asked.query.level
    address = f"{base}/studies/{text(item, 'StudyInstanceUID')}"
    if level is not Level.STUDY:
        address += f"/series/{text(item, 'SeriesInstanceUID')}"
    if level is Level.INSTANCE:
        address += f"/instances/{text(item, 'SOPInstanceUID')}"
    returned = asked.returned
    kept = {tag: value for tag, value in item.items() if returned is None or tag in returned}
    online = _ONLINE if returned is None or _AVAILABILITY in returned else {}
    return merged((kept, online, element("RetrieveURL", address)))


def _refused(status: int, faults: Sequence[Fault]) -> Response:
    content = {"faults": [str(fault) for fault in faults]}
    return Response(orjson.dumps(content), status_code=status, media_type=JSON)
