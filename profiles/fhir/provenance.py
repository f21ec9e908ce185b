# SPDX-License-Identifier: Apache-2.0
"""The Provenance of a result: which model made it from what, and who brought it.

Provenance has no business identifier in R4; a tag with the SR's SOP Instance UID takes its place.
"""

from __future__ import annotations

from collections.abc import Sequence

from profiles.air.model import ReportContent
from profiles.fhir.datatypes import instant
from profiles.fhir.entry import Entry, Links
from profiles.fhir.identifiers import FhirIdentity, Json, token_query, uid_identifier

_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"


def provenance_entry(
    content: ReportContent, *, links: Links, targets: Sequence[Entry], settings: FhirIdentity
) -> Entry:
    """The Provenance of the report and all its Observations."""
    tag = {"system": f"{settings.sid_base}/source-sr", "code": f"urn:oid:{content.sop_instance_uid}"}
    author = links.device or {"type": "Device", "display": "Unnamed algorithm"}
    resource: Json = {
        "resourceType": "Provenance",
        "meta": {"tag": [tag]},
        "target": [target.reference for target in targets],
        "recorded": instant(content.performed_at),
        "activity": {"coding": [{"system": _OPERATION, "code": "CREATE", "display": "create"}]},
        "agent": [
            _agent("author", "Author", author),
            _agent("assembler", "Assembler", {"type": "Device", "display": settings.assembler_name}),
        ],
        "entity": [
            {"role": "source", "what": links.study},
            {
                "role": "source",
                "what": {
                    "type": "DocumentReference",
                    "identifier": uid_identifier(content.sop_instance_uid),
                    "display": "Stored structured report",
                },
            },
        ],
    }
    query = token_query({"system": tag["system"], "value": tag["code"]}, parameter="_tag")
    return Entry(resource=resource, if_none_exist=query)


def _agent(code: str, display: str, who: Json) -> Json:
    return {"type": {"coding": [{"system": _PARTICIPANT, "code": code, "display": display}]}, "who": who}
