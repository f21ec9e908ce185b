# SPDX-License-Identifier: Apache-2.0
"""The resources and transactions of UPS-RS as a table: PS3.18 11.1.1, 11.3 and 8.9.

The router, the OpenAPI description and the capabilities document are all made from it, so that they cannot
disagree. Only data lives here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from informatics_gateway.dicomweb.media import DICOM_JSON, DICOM_XML, JSON, MULTIPART_XML, WADL
from informatics_gateway.dicomweb.ups_query import DEFAULT_RESULTS, MAX_RESULTS
from informatics_gateway.statuses import Operation

DATA_SETS = (DICOM_JSON, JSON, MULTIPART_XML)
"""Media types of data sets, both ways."""


class Body(StrEnum):
    """What a request carries."""

    NONE = ""
    WORKITEM = "workitem"
    CHANGES = "changes"
    STATE = "state"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A query parameter.

    Attributes
    ----------
    kind
        ``string``, ``integer`` or ``boolean``.
    values
        All values it takes, where they are few.
    """

    name: str
    kind: str
    description: str
    example: str = ""
    default: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One method of one resource.

    Attributes
    ----------
    path
        Template relative to the base URL of the service.
    name
        Of the transaction, as PS3.18 has it.
    successes
        Status to meaning.
    errors
        Other statuses that this transaction may answer.
    answers
        Media types of the payload of a success.
    formal
        False for spellings that no edition has and that are taken all the same.
    """

    operation: Operation
    method: str
    path: str
    name: str
    clause: str
    successes: Mapping[int, str]
    errors: tuple[int, ...]
    parameters: tuple[Parameter, ...] = ()
    body: Body = Body.NONE
    answers: tuple[str, ...] = ()
    formal: bool = True


_ACCEPT = Parameter(
    name="accept",
    kind="string",
    description="A media type to answer in; comes before the Accept header",
    values=DATA_SETS,
)
_TRANSACTION_UID = Parameter(
    name="transaction-uid",
    kind="string",
    description="Transaction UID of the claim; left out while SCHEDULED. Also alone, or in the data set",
    example="2.25.1",
)
_WORKITEM = Parameter(
    name="workitem",
    kind="string",
    description="UID of the workitem to be made. Also alone, or as SOP Instance UID in the data set",
    example="2.25.100",
)
_MATCHING = (
    Parameter(name="ProcedureStepState", kind="string", description="State to match", example="SCHEDULED"),
    Parameter(name="InputReadinessState", kind="string", description="Readiness to match", example="READY"),
    Parameter(
        name="ScheduledStationNameCodeSequence.CodeValue",
        kind="string",
        description="Any attribute may be matched: keyword or tag, members of sequences by a dotted path",
        example="LUNG-CT",
    ),
    Parameter(
        name="includefield", kind="string", description="Attributes wanted besides, or all", example="all"
    ),
    Parameter(
        name="limit",
        kind="integer",
        description=f"Most results, never more than {MAX_RESULTS}",
        default=str(DEFAULT_RESULTS),
    ),
    Parameter(name="offset", kind="integer", description="Matches to skip", default="0"),
    *(
        Parameter(
            name=name, kind="boolean", description="Not supported: answered with a Warning", default="false"
        )
        for name in ("fuzzymatching", "emptyvaluematching", "multiplevaluematching")
    ),
)
_SUBSCRIBE = (
    Parameter(
        name="deletionlock",
        kind="boolean",
        description="Whether final workitems are kept until unsubscribed from",
        default="false",
    ),
    Parameter(
        name="filter",
        kind="string",
        description="Only for the filtered worklist subscription: attribute=value, separated by commas",
        example="WorklistLabel=AIRWAY",
    ),
)

_WITH_BODY = (400, 404, 409, 410, 413, 414, 415, 503)
_PLAIN = (400, 404, 414, 503)
_ON_WORKITEM = "/workitems/{workitem}"
_STATE = f"{_ON_WORKITEM}/state"
_CANCEL = f"{_ON_WORKITEM}/cancelrequest"
_SUBSCRIBER = f"{_ON_WORKITEM}/subscribers/{{aetitle}}"

TRANSACTIONS: tuple[Transaction, ...] = (
    Transaction(
        operation=Operation.SEARCH,
        method="GET",
        path="/workitems",
        name="Search",
        clause="11.9",
        successes={200: "Workitems, in worklist order", 204: "None match"},
        errors=(400, 406, 414, 503),
        parameters=(*_MATCHING, _ACCEPT),
        answers=DATA_SETS,
    ),
    Transaction(
        operation=Operation.CREATE,
        method="POST",
        path="/workitems",
        name="Create Workitem",
        clause="11.4",
        successes={201: "Created; Location tells where"},
        errors=(400, 409, 413, 414, 415, 503),
        parameters=(_WORKITEM,),
        body=Body.WORKITEM,
    ),
    Transaction(
        operation=Operation.RETRIEVE,
        method="GET",
        path=_ON_WORKITEM,
        name="Retrieve Workitem",
        clause="11.5",
        successes={200: "The workitem"},
        errors=(400, 404, 406, 410, 414, 503),
        parameters=(_ACCEPT,),
        answers=DATA_SETS,
    ),
    *(
        Transaction(
            operation=Operation.UPDATE,
            method=method,
            path=_ON_WORKITEM,
            name="Update Workitem",
            clause="11.6",
            successes={200: "Updated"},
            errors=_WITH_BODY,
            parameters=(_TRANSACTION_UID,),
            body=Body.CHANGES,
            formal=method == "POST",
        )
        for method in ("POST", "PUT")
    ),
    *(
        Transaction(
            operation=Operation.CHANGE_STATE,
            method="PUT",
            path=path,
            name="Change Workitem State",
            clause="11.7",
            successes={200: "Changed, or in this state before"},
            errors=(*_WITH_BODY, 403),  # work that the task manager performs by way of others
            parameters=(_TRANSACTION_UID,),
            body=Body.STATE,
            formal=path == _STATE,
        )
        for path in (_STATE, f"{_STATE}/{{requester}}")
    ),
    *(
        Transaction(
            operation=Operation.CANCEL,
            method="POST",
            path=path,
            name="Request Cancellation",
            clause="11.8",
            successes={202: "Canceled, or its performer is told"},
            errors=_WITH_BODY,
            body=Body.CANCEL,
            formal=path == _CANCEL,
        )
        for path in (_CANCEL, f"{_CANCEL}/{{requester}}")
    ),
    Transaction(
        operation=Operation.SUBSCRIBE,
        method="POST",
        path=_SUBSCRIBER,
        name="Subscribe",
        clause="11.10",
        successes={201: "Subscribed; Content-Location tells where to listen"},
        errors=(*_PLAIN, 403, 409, 410),
        parameters=_SUBSCRIBE,
    ),
    Transaction(
        operation=Operation.UNSUBSCRIBE,
        method="DELETE",
        path=_SUBSCRIBER,
        name="Unsubscribe",
        clause="11.11",
        successes={200: "Not subscribed any more"},
        errors=(*_PLAIN, 403, 410),
    ),
    Transaction(
        operation=Operation.SUSPEND,
        method="POST",
        path=f"{_SUBSCRIBER}/suspend",
        name="Suspend Global Subscription",
        clause="11.12",
        successes={200: "New workitems are not subscribed to any more"},
        errors=(*_PLAIN, 403, 410),
    ),
)

CAPABILITIES = Transaction(
    operation=Operation.CAPABILITIES,
    method="OPTIONS",
    path="/",
    name="Retrieve Capabilities",
    clause="8.9",
    successes={200: "What the resource and those below it can do", 304: "Not changed"},
    errors=(406, 414),
    answers=(WADL, JSON),
)
"""Of the root and of every resource."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A method that another door serves under the same base URL; told in the capabilities of the root."""

    method: str
    path: str
    name: str
    status: int = 200
    takes: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


_INSTANCES = 'multipart/related; type="application/dicom"'
_WITH_METADATA = 'multipart/related; type="application/dicom+json"'
_OCTETS = 'multipart/related; type="application/octet-stream"'
_PICTURES = ("image/jpeg", "image/png", "image/gif")
_OF_STUDY = "/studies/{study}"
_OF_SERIES = f"{_OF_STUDY}/series/{{series}}"
_OF_INSTANCE = f"{_OF_SERIES}/instances/{{instance}}"
_OF_FRAMES = f"{_OF_INSTANCE}/frames/{{frames}}"

ELSEWHERE: tuple[Elsewhere, ...] = (
    Elsewhere(method="GET", path="/subscribers/{aetitle}", name="Open Notification Connection", status=101),
    *(
        Elsewhere(
            method="POST",
            path=path,
            name="Store Instances",
            takes=(_INSTANCES, "application/dicom", _WITH_METADATA, MULTIPART_XML),
            answers=(DICOM_JSON, DICOM_XML),
        )
        for path in ("/studies", _OF_STUDY)
    ),
    *(
        Elsewhere(method="GET", path=path, name="Search", answers=(DICOM_JSON, MULTIPART_XML))
        for path in (
            "/studies",
            "/series",
            "/instances",
            f"{_OF_STUDY}/series",
            f"{_OF_STUDY}/instances",
            f"{_OF_SERIES}/instances",
        )
    ),
    *(
        Elsewhere(method="GET", path=f"{path}{suffix}", name=f"Retrieve {what}", answers=kinds)
        for path in (_OF_STUDY, _OF_SERIES, _OF_INSTANCE)
        for suffix, what, kinds in (
            ("", "Instances", (_INSTANCES,)),
            ("/metadata", "Metadata", (DICOM_JSON, MULTIPART_XML)),
            ("/thumbnail", "Thumbnail", _PICTURES),
        )
    ),
    *(
        Elsewhere(method="GET", path=path, name=f"Retrieve {what}", answers=kinds)
        for path, what, kinds in (
            (f"{_OF_INSTANCE}/rendered", "Rendered Instance", _PICTURES),
            (f"{_OF_INSTANCE}/bulkdata/{{where}}", "Bulk Data", (_OCTETS,)),
            (_OF_FRAMES, "Frames", (_OCTETS,)),
            (f"{_OF_FRAMES}/rendered", "Rendered Frame", _PICTURES),
            (f"{_OF_FRAMES}/thumbnail", "Frame Thumbnail", _PICTURES),
        )
    ),
)
