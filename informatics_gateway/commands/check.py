# SPDX-License-Identifier: Apache-2.0
"""`airway apps`, `airway check-config` and `airway doctor`: what is installed, and whether it fits."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ai_apps.catalog import catalog
from ai_apps.inference.onnx_session import ModelError, OnnxSession
from informatics_gateway.app import utc_now
from informatics_gateway.commands.console import OUT, fail, program
from informatics_gateway.configuration import configured_rules, database_url, load_settings, rules_folder
from informatics_gateway.destinations import make_deliverers
from task_manager.errors import AirwayError
from task_manager.store.database import Database

_LEAST_FREE_BYTES = 2 << 30


def list_apps() -> None:
    """Print the installed apps."""
    for name, manifest in catalog().items():
        OUT.print(f"{name} {manifest.version}  {manifest.title} ({manifest.label})", markup=False)
        OUT.print(
            f"  workitem code {manifest.workitem_code.value} ({manifest.workitem_code.scheme})", markup=False
        )
        for parameter, default in manifest.parameter_values({}).items():
            OUT.print(f"  {parameter} = {default}", markup=False)


def check_config(config: Path | None) -> None:
    """Check settings, rules and destinations; a fault ends with exit status 2 (see ``main``)."""
    settings = load_settings(config)
    rules = configured_rules(settings, config, list(catalog()))
    make_deliverers(settings, utc_now)
    OUT.print(f"Good: {config or 'all defaults'}", markup=False)
    OUT.print(
        f"  {len(rules.rules)} rules in {rules_folder(settings, config)}, version {rules.version}",
        markup=False,
    )
    for destination in settings.destinations:
        OUT.print(f"  destination {destination.name} ({destination.kind})", markup=False)
    OUT.print(f"Next: {program()} serve" + (f" --config {config}" if config else ""), markup=False)


def doctor(data: Path, config: Path | None) -> None:
    """Check Python, disk, database, configuration and inference; exit status 1 if something is unfit."""
    settings = load_settings(config)
    checks: list[tuple[str, Callable[[], str]]] = [
        ("Python", lambda: sys.version.split()[0]),
        ("data folder", lambda: _folder(data)),
        ("database", lambda: _database(database_url(settings, data))),
        ("rules", lambda: f"{len(configured_rules(settings, config, list(catalog())).rules)} rules"),
        ("inference", _inference),
    ]
    unfit = []
    for name, look in checks:
        try:
            OUT.print(f"  ok    {name}: {look()}", markup=False)
        except (AirwayError, ModelError, OSError) as error:
            OUT.print(f"  UNFIT {name}: {error}", markup=False)
            unfit.append(name)
    if unfit:
        fail(f"Mend: {', '.join(unfit)}", status=1)
    OUT.print(f"Fit. Next: {program()} serve", markup=False)


def _folder(data: Path) -> str:
    data.mkdir(parents=True, exist_ok=True)
    if not os.access(data, os.W_OK):
        raise OSError(f"{data} cannot be written")
    free = shutil.disk_usage(data).free
    if free < _LEAST_FREE_BYTES:
        raise OSError(f"{data} has {free >> 20} MiB free; give it at least {_LEAST_FREE_BYTES >> 20} MiB")
    return f"{data}, {free >> 30} GiB free"


def _database(url: str) -> str:
    database = Database(url)
    try:
        database.migrate()
    finally:
        database.close()
    return "SQLite" if database.is_sqlite else "PostgreSQL"


def _inference() -> str:
    """Where the models of the installed apps really run: asked of a session, not of what is built in."""
    devices = []
    for name, manifest in catalog().items():
        if manifest.model is not None:
            devices.append(f"{name} on {OnnxSession(manifest.model).device}")
    return ", ".join(devices) or "no app has a model"
