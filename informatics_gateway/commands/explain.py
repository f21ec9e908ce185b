# SPDX-License-Identifier: Apache-2.0
"""`airway explain`: prints the story of a study, from the database itself."""

from __future__ import annotations

from pathlib import Path

from informatics_gateway.commands.console import OUT, fail
from informatics_gateway.configuration import database_url, load_settings
from informatics_gateway.settings import Settings
from informatics_gateway.story_words import story_text
from profiles.uids import is_uid
from task_manager.attention import configured_lanes
from task_manager.dispatch.model import Style
from task_manager.store.database import Database
from task_manager.story import study_story


def explain(study_instance_uid: str, data: Path, config: Path | None) -> None:
    """Print why a study did or did not run; the server need not be running."""
    settings = load_settings(config)
    if not is_uid(study_instance_uid):
        fail("That is not a Study Instance UID.")
    url = database_url(settings, data)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        fail(f"There is no database in {data}. Name the folder that `airway serve` uses with --data.")
    database = Database(url)
    try:
        story = study_story(database, study_instance_uid)
    finally:
        database.close()
    if story is None:
        fail(
            "This study was never received. Was it sent to this Airway? See its log for refused instances.",
            status=1,
        )
    OUT.print(story_text(story, _lanes(settings)), markup=False)


def _lanes(settings: Settings) -> frozenset[str]:
    performers = settings.manager.performers
    return configured_lanes(
        (destination.name for destination in settings.destinations),
        (sink.name for sink in settings.events),
        (performer.ae_title for performer in performers if performer.style is Style.PUSH),
    )
