# SPDX-License-Identifier: Apache-2.0
"""`airway apps` and `airway check-config`: what is installed, and whether the configuration fits."""

from __future__ import annotations

from pathlib import Path

from ai_apps.catalog import catalog
from informatics_gateway.app import utc_now
from informatics_gateway.archives import make_study_archives
from informatics_gateway.commands.console import OUT, program
from informatics_gateway.configuration import configured_rules, load_settings, rules_folder
from informatics_gateway.destinations import make_deliverers


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
    for archive in make_study_archives(settings):
        archive.close()
    OUT.print(f"Good: {config or 'all defaults'}", markup=False)
    OUT.print(
        f"  {len(rules.rules)} rules in {rules_folder(settings, config)}, version {rules.version}",
        markup=False,
    )
    for destination in settings.destinations:
        OUT.print(f"  destination {destination.name} ({destination.kind})", markup=False)
    OUT.print(f"Next: {program()} serve" + (f" --config {config}" if config else ""), markup=False)
