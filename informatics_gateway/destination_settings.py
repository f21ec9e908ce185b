# SPDX-License-Identifier: Apache-2.0
"""The settings of destinations: what every kind has, and where and how each kind is reached.

A new kind is a class on :class:`DestinationSettings` that joins `Destination` in ``settings.py``;
``destinations.py`` makes the object that serves it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from informatics_gateway.setting_types import AeTitle, Name, Port
from task_manager.delivery.policy import Commitment
from task_manager.rules.conditions import ConditionReader
from task_manager.rules.nodes import Entry, FaultList


def _node(value: Any) -> yaml.Node:
    """A value of the settings as the node that it was read from."""
    if isinstance(value, dict):
        pairs = [(_node(key), _node(one)) for key, one in value.items()]
        return yaml.MappingNode(tag="tag:yaml.org,2002:map", value=pairs)
    if isinstance(value, list | tuple):
        return yaml.SequenceNode(tag="tag:yaml.org,2002:seq", value=[_node(one) for one in value])
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return yaml.ScalarNode(tag="tag:yaml.org,2002:str", value=text)


def _condition(value: Any) -> Any:
    if value is None or not isinstance(value, dict | list | str):
        return value
    faults = FaultList()
    condition = ConditionReader(faults).condition(Entry(node=_node(value), source=""))
    if faults.found:
        raise ValueError("; ".join(fault.message for fault in faults.found))
    return condition


FilterCondition = Annotated[Any, BeforeValidator(_condition)]
"""A condition in the language of the rules, read into :class:`task_manager.rules.model.Condition`."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FilterSettings(_Part):
    """Which results go to the destination; all that is given must hold, and unknown does not hold."""

    apps: tuple[Name, ...] = ()
    """Apps, of which one must have made the result; none takes all."""
    rules: tuple[str, ...] = ()
    """Rules, of which one must have asked for it; none takes all."""
    when: FilterCondition = None
    """Condition on the study and its order, in the language of the rules."""
    objects: FilterCondition = None
    """Condition on each object, in the language of the rules; objects that do not satisfy it are left out."""


class RateSettings(_Part):
    """How much a destination is sent, over all that go at a time; both may be given."""

    per_second: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    """Instances or messages a second; 0 sets no limit."""
    per_minute: Annotated[float, Field(ge=0, le=600_000)] = 0.0
    """Instances or messages a minute; 0 sets no limit."""
    burst: Annotated[int, Field(ge=1, le=10_000)] = 1
    """How many may go at once after a rest."""


class RetrySettings(_Part):
    """When a delivery that failed is tried again."""

    first_s: Annotated[float, Field(gt=0, le=86_400)] = 1.0
    """First pause, seconds; doubled with each failure."""
    most_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """Longest pause, seconds."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Greatest part of a pause that is taken off it, so that not all come back at once."""
    give_up_h: Annotated[float, Field(ge=0, le=8760)] = 0.0
    """When a delivery that still fails becomes a dead letter, hours after it was planned; 0 never."""


class BreakerSettings(_Part):
    """When a destination that cannot be reached is left alone."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """How many in a row that did not reach it."""
    pause_s: Annotated[float, Field(gt=0, le=86_400)] = 30.0
    """How long until one delivery probes it, seconds; doubled with each probe that fails."""
    most_pause_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Longest pause, seconds."""


class DestinationSettings(_Part):
    """What every kind of destination has."""

    name: Name
    """Name that rules use."""
    filter: FilterSettings = FilterSettings()
    """Which results it gets."""
    rate: RateSettings = RateSettings()
    """How much it is sent."""
    parallel: Annotated[int, Field(ge=1, le=32)] = 1
    """Deliveries at a time; those of one study always go one after the other."""
    retry: RetrySettings = RetrySettings()
    """Failed deliveries."""
    breaker: BreakerSettings = BreakerSettings()
    """Destinations that are down."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long to wait for a connection and for each answer, seconds."""


class CommitmentSettings(_Part):
    """Storage commitment (PS3.4 Annex J): a delivery is done when the destination has said so."""

    mode: Commitment = Commitment.OFF
    """`off`, `if_offered` (if the peer accepts the SOP class), or `required`."""
    wait_s: Annotated[float, Field(ge=0, le=60)] = 2.0
    """How long its report is waited for on the association that asked, seconds; it may come to our own port
    at any time after."""
    timeout_s: Annotated[float, Field(gt=0, le=604_800)] = 600.0
    """How long after the request it is asked again, seconds."""
    rounds: Annotated[int, Field(ge=1, le=100)] = 3
    """How often what it did not commit is sent again before a person has to decide."""


def _spelled_out(value: Any) -> Any:
    """A mode alone stands for the settings with that mode."""
    return {"mode": value} if isinstance(value, str) else value


class DicomDestination(DestinationSettings):
    """Results by C-STORE."""

    kind: Literal["dicom"]
    """Results by C-STORE."""
    host: str
    """Where it listens."""
    port: Port
    """Where it listens."""
    ae_title: AeTitle
    """Called AE title."""
    commitment: Annotated[CommitmentSettings, BeforeValidator(_spelled_out)] = CommitmentSettings()
    """Storage commitment; a mode alone may be given."""


class DicomWebDestination(DestinationSettings):
    """Results by STOW-RS; `url` is the DICOMweb base."""

    kind: Literal["dicomweb"]
    """Results by STOW-RS."""
    url: str
    """DICOMweb base."""
    token_file: Path | None = None
    """File with a bearer token; https only."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""


class FhirDestination(DestinationSettings):
    """Results as a FHIR R4 transaction; `url` is the FHIR base."""

    kind: Literal["fhir"]
    """Results as FHIR."""
    url: str
    """FHIR base."""
    token_file: Path | None = None
    """File with a bearer token; https only."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
