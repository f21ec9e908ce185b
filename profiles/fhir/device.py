# SPDX-License-Identifier: Apache-2.0
"""The Device of a result: the model that computed it, exactly the state named by its DeviceUID."""

from __future__ import annotations

from profiles.air.model import ReportContent
from profiles.codes import ALGORITHM_PARAMETERS, ARTIFICIAL_INTELLIGENCE
from profiles.fhir.datatypes import concept
from profiles.fhir.entry import Entry
from profiles.fhir.identifiers import FhirIdentity, Json, token_query, uid_identifier


def device_entry(content: ReportContent, settings: FhirIdentity) -> Entry | None:
    """The Device of the algorithm; None if the SR names none.

    All algorithm parameters are told (TID 4019), so a label such as "not for clinical use" is kept: as
    properties for machines and as a note for readers.
    """
    identifiers = _identifiers(content, settings)
    if not identifiers:
        return None
    resource: Json = {"resourceType": "Device", "identifier": identifiers, "status": "active"}
    if content.device_manufacturer:
        resource["manufacturer"] = content.device_manufacturer
    if content.device_name:
        resource["deviceName"] = [{"name": content.device_name, "type": "model-name"}]
    resource["type"] = concept(ARTIFICIAL_INTELLIGENCE, settings)
    if content.device_version:
        resource["version"] = [{"value": content.device_version}]
    if content.algorithm_parameters:
        resource["property"] = [
            {"type": concept(ALGORITHM_PARAMETERS, settings), "valueCode": [{"text": parameter}]}
            for parameter in content.algorithm_parameters
        ]
        resource["note"] = [{"text": "; ".join(content.algorithm_parameters)}]
    return Entry(resource=resource, if_none_exist=token_query(identifiers[0]))


def _identifiers(content: ReportContent, settings: FhirIdentity) -> list[Json]:
    identifiers = [uid_identifier(content.device_uid)] if content.device_uid else []
    if content.device_name:
        maker = f"{content.device_manufacturer}/" if content.device_manufacturer else ""
        model = f"{maker}{content.device_name}@{content.device_version}"
        identifiers.append({"system": f"{settings.sid_base}/model", "value": model})
    return identifiers
