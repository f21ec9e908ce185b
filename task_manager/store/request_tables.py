# SPDX-License-Identifier: Apache-2.0
"""The tables of what asks for the analysis of studies, and of performed procedure steps.

What a request says of patient and procedure is in its order (``imaging_order``), where merges reach it; here
is only who asked, how, and what is read back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Text
from sqlmodel import Field

from task_manager.store.tables import Table, UtcText


def _time() -> Any:
    return Column(UtcText(), nullable=False)


def _long() -> Any:
    return Column(Text, nullable=False)


class RequestRow(Table, table=True):
    """One request; `study_instance_uid` is filled only where there is no order to find the study by."""

    __tablename__ = "request"
    __table_args__ = (
        Index("request_order", "order_key"),
        Index("request_study", "study_instance_uid"),
    )

    request_key: str = Field(primary_key=True)
    kind: str
    source: str = ""
    requester: str = ""
    app: str = ""
    priority: str = ""
    order_key: str = ""
    study_instance_uid: str = ""
    digest: str
    version: int = 1
    document: str = Field(sa_column=_long())
    received_at: datetime = Field(sa_column=_time())
    changed_at: datetime = Field(sa_column=_time())


class RequestTokenRow(Table, table=True):
    """A business identifier of a request (``system|value``), for conditional creates."""

    __tablename__ = "request_token"
    __table_args__ = (Index("request_token_key", "request_key"),)

    kind: str = Field(primary_key=True)
    token: str = Field(primary_key=True)
    request_key: str = Field(primary_key=True)


class PerformedStepRow(Table, table=True):
    """A performed procedure step as its modality told it last, in DICOM JSON."""

    __tablename__ = "performed_step"
    __table_args__ = (Index("performed_step_changed", "changed_at"),)

    sop_instance_uid: str = Field(primary_key=True, max_length=64)
    study_instance_uid: str
    status: str
    source: str
    content: str = Field(sa_column=_long())
    created_at: datetime = Field(sa_column=_time())
    changed_at: datetime = Field(sa_column=_time())
