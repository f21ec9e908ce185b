# SPDX-License-Identifier: Apache-2.0
"""`airway migrate`: the schema of the database."""

from __future__ import annotations

from pathlib import Path

from informatics_gateway.commands.console import OUT, program
from informatics_gateway.configuration import database_url, load_settings
from task_manager.store.database import Database


def migrate(data: Path, config: Path | None) -> None:
    """Bring the database to this release's schema; harmless when it is there already."""
    settings = load_settings(config)
    data.mkdir(parents=True, exist_ok=True)
    database = Database(database_url(settings, data))
    try:
        database.migrate()
    finally:
        database.close()
    OUT.print(f"The database has the schema of this release. Next: {program()} serve", markup=False)
