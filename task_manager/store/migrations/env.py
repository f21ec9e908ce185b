# SPDX-License-Identifier: Apache-2.0
"""Runs migrations on the connection that :meth:`task_manager.store.database.Database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from task_manager.store import (  # noqa: F401 - its tables join the metadata
    delivery_tables,
    disk_tables,
    evidence_tables,
    fetch_tables,
    patient_tables,
    request_tables,
)
from task_manager.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
