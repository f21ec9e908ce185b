# SPDX-License-Identifier: Apache-2.0
"""Rules that wait for earlier studies: begun with the study, searched and fetched by the worker, settled.

A wait is a row and a job of the transaction in which the rule matched. It ends when all that was chosen is
here, or when its time is over: then the rule runs without, or a person decides, as it says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from task_manager.fetching.archives import Archives
from task_manager.fetching.model import FetchPurpose, FetchState, FetchTarget
from task_manager.fetching.prior_search import Found, PriorSearch
from task_manager.fetching.requests import StudyFetches
from task_manager.outbox import PRIORS_LANE, Job, JobKind
from task_manager.rules.explain import RuleExplanation, RuleVerdict
from task_manager.rules.model import PriorRequirement, Rule, RuleSet
from task_manager.rules.prior_outcomes import PriorOutcome, PriorStudy
from task_manager.rules.prior_selection import HERE, ranked_priors
from task_manager.rules.prior_series import prior_series
from task_manager.store import identities, jobs, priors, studies
from task_manager.store.acquisitions import StoredAcquisition
from task_manager.store.database import Connection, Database
from task_manager.store.priors import PriorWait
from task_manager.study.model import Study

_LOG = logging.getLogger(__name__)
_LOOK_AGAIN = timedelta(seconds=15)
_MOST_CANDIDATES_KEPT = 50
_KEPT_FOR = timedelta(days=180)

Settle = Callable[[Connection, PriorWait, Rule], str]
"""Runs a rule with what was found, in the transaction given; what came of it in words."""


def with_waits(
    connection: Connection,
    study: Study,
    rules: Sequence[Rule],
    explanations: Sequence[RuleExplanation],
    now: datetime,
    *,
    approved: bool = False,
) -> list[RuleExplanation]:
    """The explanations, those of rules that match and want priors now waiting; each has a row and a job."""
    return [
        _begun(connection, study, rule, explanation, now, approved)
        if explanation.matched and rule.priors
        else explanation
        for rule, explanation in zip(rules, explanations, strict=True)
    ]


def _begun(
    connection: Connection,
    study: Study,
    rule: Rule,
    explanation: RuleExplanation,
    now: datetime,
    approved: bool,
) -> RuleExplanation:
    known = priors.wait_of(connection, study.study_instance_uid, study.revision, rule.name)
    if known is not None and known.settled:
        return replace(explanation, priors=known.outcomes)
    until = known.until if known else now + timedelta(minutes=max(one.wait_min for one in rule.priors))
    wait = known or PriorWait(
        study_instance_uid=study.study_instance_uid,
        revision=study.revision,
        rule=rule.name,
        until=until,
        approved=approved,
    )
    priors.put_wait(connection, replace(wait, approved=wait.approved or approved), now)
    jobs.plan_job(connection, key=wait.key, lane=PRIORS_LANE, kind=JobKind.FETCH, now=now)
    note = f"waits for earlier studies until {until:%Y-%m-%d %H:%M:%S}Z at most"
    return replace(explanation, verdict=RuleVerdict.WAITING, note=note, priors=wait.outcomes)


class PriorStep:
    """Performs the jobs of rules that wait for priors.

    Parameters
    ----------
    settle
        Runs a rule with what was found.
    object_path
        Where the object with a path of the store lies.
    """

    def __init__(
        self,
        database: Database,
        archives: Archives,
        requests: StudyFetches,
        rules: RuleSet,
        settle: Settle,
        *,
        most_studies: int,
        object_path: Callable[[str], Path],
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._archives = archives
        self._requests = requests
        self._rules = {rule.name: rule for rule in rules.rules}
        self._classifiers = rules.classifiers
        self._settle = settle
        self._search = PriorSearch(database, archives, most_studies=most_studies, clock=clock)
        self._object_path = object_path
        self._clock = clock

    def perform(self, job: Job) -> None:
        """Search, fetch, look whether all is here, and settle; the job is written as it is then.

        Raises
        ------
        StoreError
            If the database fails: the job stays claimed.
        """
        uid, revision, name = priors.of_wait_key(job.key)
        rule = self._rules.get(name)
        with self._database.read() as connection:
            wait = priors.wait_of(connection, uid, revision, name)
            known = studies.whole_study(connection, uid)
            study = identities.identified(connection, known) if known else None
        if rule is None or wait is None or wait.settled or study is None or study.revision != revision:
            self._end(job, "the study was looked at anew")
            return
        late = self._clock() >= wait.until
        found_all = bool(wait.outcomes) and not any(one.notes for one in wait.outcomes)
        if not found_all and not (late and wait.outcomes):
            wait = self._searched(wait, rule, study)
        pending = self._pending(wait)
        searching = any(one.notes for one in wait.outcomes)
        if (pending or searching) and not late:
            self._wait_on(job, wait)
            return
        self._end_wait(job, wait, rule, pending)

    def _searched(self, wait: PriorWait, rule: Rule, study: Study) -> PriorWait:
        """Look for candidates, choose, and have what is not here fetched."""
        found = self._search.search(study, rule.priors)
        outcomes = tuple(_outcome(one, found) for one in rule.priors)
        chosen = {uid for one in outcomes for uid in one.wanted}
        held = self._search.held(sorted(chosen)) if chosen else {}
        places = {one.study_instance_uid: one.places for one in found.candidates}
        now = self._clock()
        with self._database.write() as connection:
            for uid in sorted(chosen):
                archive = next((place for place in places[uid] if place != HERE), "")
                if archive and not 0 < found.instances.get(uid, 0) <= held.get(uid, 0):
                    self._plan(connection, uid, archive, rule)
            searched = replace(wait, outcomes=outcomes)
            priors.put_wait(connection, searched, now)
        self._requests.wake()
        extra = {"action": "priors.chosen", "study": wait.study_instance_uid, "chosen": len(chosen)}
        _LOG.info("earlier studies were looked for", extra=extra)
        return searched

    def _plan(self, connection: Connection, uid: str, archive: str, rule: Rule) -> None:
        target = FetchTarget(study_instance_uid=uid, archive=archive)
        known = priors.fetch_states(connection, [target.key]).get(target.key)
        if known is not None and known[0] is FetchState.HELD:
            return  # a person is asked already
        self._requests.plan(connection, target, purpose=FetchPurpose.PRIOR, asked_by=f"rule {rule.name}")

    def _states(self, wait: PriorWait) -> Mapping[str, tuple[FetchState, str]]:
        """State of the fetches of what was chosen, by Study Instance UID; nothing for what is only here."""
        keys: dict[str, str] = {}
        for outcome in wait.outcomes:
            for one in outcome.candidates:
                if one.selected:
                    archive = next((place for place in one.places if place != HERE), "")
                    target = FetchTarget(study_instance_uid=one.study_instance_uid, archive=archive)
                    keys[target.key] = one.study_instance_uid
        if not keys:
            return {}
        with self._database.read() as connection:
            states = priors.fetch_states(connection, sorted(keys))
        return {keys[key]: state for key, state in states.items()}

    def _pending(self, wait: PriorWait) -> dict[str, str]:
        """What was chosen and is not here yet: why, by Study Instance UID; held ones do not count."""
        return {
            uid: error or "it is being fetched"
            for uid, (state, error) in self._states(wait).items()
            if state.is_open
        }

    def _wait_on(self, job: Job, wait: PriorWait) -> None:
        due = min(wait.until, self._clock() + _LOOK_AGAIN)
        with self._database.write() as connection:
            jobs.put_back_job(connection, job, due_at=due)

    def _end_wait(self, job: Job, wait: PriorWait, rule: Rule, pending: Mapping[str, str]) -> None:
        """Time is over, or all is here: take the series, and let the rule run or a person decide."""
        failed = {
            uid: error or state.value
            for uid, (state, error) in self._states(wait).items()
            if state in (FetchState.HELD, FetchState.NOT_FOUND)
        }
        now = self._clock()
        wanted = {one.name: one for one in rule.priors}
        with self._database.write() as connection:
            outcomes = tuple(
                self._taken(connection, wanted[one.name], one, {**failed, **pending}) for one in wait.outcomes
            )
            settled = replace(wait, settled=True, outcomes=outcomes)
            priors.put_wait(connection, settled, now)
            summary = self._settle(connection, settled, rule)
            jobs.finish_job(connection, job, summary=summary, now=now)
            priors.purge_waits(connection, now - _KEPT_FOR)
        extra = {"action": "priors.settled", "study": wait.study_instance_uid, "rule": rule.name}
        _LOG.info("a rule waits no longer for earlier studies", extra=extra)

    def _taken(
        self,
        connection: Connection,
        wanted: PriorRequirement,
        outcome: PriorOutcome,
        missing: Mapping[str, str],
    ) -> PriorOutcome:
        taken: list[PriorStudy] = []
        notes = [*outcome.notes]
        for uid in outcome.wanted:
            study = studies.whole_study(connection, uid)
            if uid in missing or study is None:
                notes.append(f"study {uid} did not come: {missing.get(uid, 'it is not here')}")
                continue
            acquisition = StoredAcquisition(connection, uid, self._object_path)
            series, why = prior_series(wanted, study, acquisition, self._classifiers)
            if series:
                taken.append(PriorStudy(study_instance_uid=uid, series=series))
            else:
                notes.append(f"study {uid} has no series that fits: {why}")
        return replace(outcome, studies=tuple(taken), notes=tuple(notes))

    def _end(self, job: Job, summary: str) -> None:
        with self._database.write() as connection:
            jobs.finish_job(connection, job, summary=summary, now=self._clock())


def _outcome(wanted: PriorRequirement, found: Found) -> PriorOutcome:
    candidates = ranked_priors(wanted, found.subject, found.candidates)
    return PriorOutcome(
        name=wanted.name,
        required=wanted.required,
        parameter=wanted.parameter,
        candidates=candidates[:_MOST_CANDIDATES_KEPT],
        notes=tuple(found.notes),
    )
