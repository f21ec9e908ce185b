# SPDX-License-Identifier: Apache-2.0
"""Delivery jobs from claim to end, on SQLite and on PostgreSQL: tries, breaker, order, commitment, filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from informatics_gateway.story_words import story_text
from profiles.sole.events import EventType
from task_manager.delivery.breaker import BreakerPolicy, Circuit
from task_manager.delivery.commitment import Answer, CommitmentAsk, CommitmentReport, Reported
from task_manager.delivery.policy import Commitment, CommitmentPolicy, DeliveryPolicy, ResultFilter
from task_manager.errors import FinalDeliveryError, RetryableDeliveryError, StoppedDeliveryError
from task_manager.outbox import Job, JobKind, JobState, RetryPolicy
from task_manager.ports import Receipt, Shipment, Turn, at_once
from task_manager.store import jobs
from tests.instances import STUDY
from tests.service import TestBed, make_service
from tests.unit.task_manager.destinations import PERSON, Committing, Destination
from tests.unit.task_manager.steps import run_to_completed, workitem

LEASE = timedelta(minutes=1)
SEG, SR = f"{STUDY}.8.1", f"{STUDY}.9.1"
ALL = (SEG, SR)
Make = Callable[..., TestBed]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """A service whose destination ``pacs`` is served as a test says, with one result to deliver."""
    url = request.getfixturevalue("postgresql_dsn") if request.param == "postgresql" else ""
    made: list[TestBed] = []

    def build(**policy: object) -> TestBed:
        retry = RetryPolicy(first=timedelta(seconds=1), most=timedelta(seconds=60))
        given = {"name": "pacs", "retry": retry, **policy}
        bed = make_service(tmp_path, url, deliveries=[DeliveryPolicy(**given)])  # type: ignore[arg-type]
        made.append(bed)
        run_to_completed(bed)
        return bed

    yield build
    for bed in made:
        bed.database.close()


def claim(bed: TestBed, worker: str = "w") -> Job | None:
    return bed.service.deliveries.claim("pacs", worker=worker, lease=LEASE)


def perform(bed: TestBed, destination: Destination) -> None:
    job = claim(bed)
    assert job is not None
    assert bed.service.deliveries.perform(job, "pacs", destination)


def delivery(bed: TestBed) -> Job:
    return next(job for job in workitem(bed).deliveries if job.lane == "deliver/pacs")


def wait_s(bed: TestBed) -> float | None:
    due = bed.service.deliveries.next_due("pacs")
    return None if due is None else (due - bed.clock()).total_seconds()


def circuit(bed: TestBed) -> Circuit:
    return bed.service.deliveries.health()["pacs"][1]


def down() -> RetryableDeliveryError:
    return RetryableDeliveryError("connection refused", unreachable=True)


def test_what_a_destination_asks_for_is_honoured(make: Make) -> None:
    bed = make()
    busy = RetryableDeliveryError("HTTP 503", retry_after=timedelta(seconds=45))
    perform(bed, Destination([busy]))
    assert wait_s(bed) == 45
    assert (delivery(bed).attempts, delivery(bed).last_error) == (1, "HTTP 503")


def test_jitter_follows_from_the_job(make: Make) -> None:
    retry = RetryPolicy(first=timedelta(seconds=100), most=timedelta(seconds=100), jitter=0.5)
    bed = make(retry=retry)
    perform(bed, Destination([down()]))
    waited = wait_s(bed)
    assert waited is not None
    assert 50 < waited < 100
    assert retry.next_due(1, bed.clock(), key=delivery(bed).key) == bed.service.deliveries.next_due("pacs")


def test_a_permanent_refusal_is_a_dead_letter_at_once(make: Make) -> None:
    bed = make()
    perform(bed, Destination([FinalDeliveryError("0 of 2 stored; the peer answered C000")]))
    assert delivery(bed).state is JobState.HELD
    assert wait_s(bed) is None
    [held] = bed.service.dead_letters.page().jobs
    assert (held.why, held.study_instance_uid) == ("0 of 2 stored; the peer answered C000", STUDY)


def test_what_still_fails_after_its_time_is_a_dead_letter(make: Make) -> None:
    bed = make(give_up=timedelta(hours=1))
    perform(bed, Destination([down()]))
    bed.clock.pass_(3600)
    perform(bed, Destination([down()]))
    assert (delivery(bed).state, delivery(bed).last_error) == (JobState.HELD, "given up: connection refused")


def test_a_person_who_retries_begins_its_time_anew(make: Make) -> None:
    bed = make(give_up=timedelta(hours=1))
    bed.clock.pass_(7200)
    perform(bed, Destination([down()]))
    assert delivery(bed).state is JobState.HELD
    bed.service.dead_letters.retry(delivery(bed).key, actor=PERSON)
    perform(bed, Destination([down()]))
    assert delivery(bed).state is JobState.WAITING
    bed.clock.pass_(3600)
    perform(bed, Destination([down()]))
    assert delivery(bed).state is JobState.HELD


def test_the_breaker_opens_probes_and_closes(make: Make) -> None:
    pause = RetryPolicy(first=timedelta(seconds=30), most=timedelta(seconds=600))
    bed = make(
        retry=RetryPolicy(first=timedelta(seconds=1), most=timedelta(seconds=1)),
        breaker=BreakerPolicy(failures=3, pause=pause),
    )
    for _ in range(3):
        assert circuit(bed) is Circuit.CLOSED
        perform(bed, Destination([down()]))
        bed.clock.pass_(1)
    assert circuit(bed) is Circuit.OPEN
    assert wait_s(bed) == 29
    assert claim(bed) is None
    assert "left alone until" in story_text(bed.service.story(STUDY))  # type: ignore[arg-type]
    bed.clock.pass_(29)
    assert circuit(bed) is Circuit.HALF_OPEN
    with bed.database.write() as connection:
        jobs.plan_job(connection, key="more", lane="deliver/pacs", kind=JobKind.DELIVER, now=bed.clock())
    probe = claim(bed)
    assert probe is not None
    assert claim(bed, "another") is None
    bed.service.dead_letters.drop("more", reason="only to be refused", actor=PERSON)
    assert bed.service.deliveries.perform(probe, "pacs", Destination([down()]))
    bed.clock.pass_(59)
    assert claim(bed) is None
    bed.clock.pass_(1)
    perform(bed, Destination())
    assert circuit(bed) is Circuit.CLOSED


def test_who_answers_closes_the_breaker_whatever_it_answers(make: Make) -> None:
    bed = make(breaker=BreakerPolicy(failures=2))
    perform(bed, Destination([down()]))
    bed.clock.pass_(60)
    perform(bed, Destination([RetryableDeliveryError("the peer answered A700")]))
    bed.clock.pass_(60)
    perform(bed, Destination([down()]))
    assert circuit(bed) is Circuit.CLOSED


def test_what_is_not_here_any_more_tells_nothing_of_the_destination(make: Make) -> None:
    bed = make(breaker=BreakerPolicy(failures=1))
    perform(bed, Destination([down()]))
    with bed.database.write() as connection:
        connection.execute(text("DELETE FROM instance"))
    bed.clock.pass_(30)
    perform(bed, Destination())
    assert (delivery(bed).state, circuit(bed)) == (JobState.HELD, Circuit.HALF_OPEN)


def test_a_restart_while_probing_leaves_nobody_waiting(make: Make) -> None:
    bed = make(breaker=BreakerPolicy(failures=1))
    perform(bed, Destination([down()]))
    bed.clock.pass_(30)
    assert claim(bed) is not None
    bed.service.release_claims("w")
    assert claim(bed) is None
    bed.service.deliveries.resume()
    assert claim(bed) is not None


def test_what_was_broken_off_is_no_failure(make: Make) -> None:
    bed = make()
    job = claim(bed)
    assert job is not None
    assert not bed.service.deliveries.perform(job, "pacs", Destination([StoppedDeliveryError("stops")]))
    assert claim(bed, "another") is None
    bed.service.deliveries.release("pacs", worker="w")
    again = claim(bed, "another")
    assert again is not None
    assert again.attempts == 0


def test_who_lost_its_claim_is_stopped(make: Make) -> None:
    bed = make()
    job = claim(bed)
    assert job is not None
    bed.clock.pass_(50)
    bed.service.deliveries.keep_claim(job, worker="w", lease=LEASE)
    bed.clock.pass_(50)
    assert claim(bed, "another") is None
    bed.clock.pass_(11)
    assert claim(bed, "another") is not None
    with pytest.raises(StoppedDeliveryError):
        bed.service.deliveries.keep_claim(job, worker="w", lease=LEASE)


def test_who_lost_its_claim_ends_only_what_it_has_done(make: Make) -> None:
    bed = make()
    late = claim(bed)
    bed.clock.pass_(61)
    assert late is not None
    taken_over = claim(bed, "another")
    assert taken_over is not None
    for failure in (down(), FinalDeliveryError("the peer answered C000")):
        assert bed.service.deliveries.perform(late, "pacs", Destination([failure]))
        assert delivery(bed).state is JobState.RUNNING
    assert bed.service.deliveries.perform(taken_over, "pacs", Destination())
    assert delivery(bed).state is JobState.DONE


def test_results_of_a_study_go_one_after_the_other(make: Make) -> None:
    bed = make(parallel=4)
    with bed.database.write() as connection:
        for key, uid in (("later", workitem(bed).uid), ("of another study", "")):
            jobs.plan_job(
                connection,
                key=key,
                lane="deliver/pacs",
                kind=JobKind.DELIVER,
                now=bed.clock(),
                workitem_uid=uid,
            )
    first, second = claim(bed, "w#0"), claim(bed, "w#1")
    assert first is not None
    assert second is not None
    assert second.key == "of another study"
    assert claim(bed, "w#2") is None
    assert bed.service.deliveries.perform(first, "pacs", Destination([down()]))
    assert claim(bed, "w#2") is None  # it waits for its next try, and is still the first
    bed.clock.pass_(1)
    perform(bed, Destination())
    following = claim(bed, "w#2")
    assert following is not None
    assert following.key == "later"


def test_what_a_filter_leaves_out_is_told(make: Make) -> None:
    bed = make(results=ResultFilter(apps=("knee",)))
    destination = Destination()
    perform(bed, destination)
    assert destination.got == []
    assert (delivery(bed).state, delivery(bed).summary) == (
        JobState.DONE,
        "filter: app lung-ct is none of knee",
    )
    story = bed.service.story(STUDY)
    assert story is not None
    assert EventType.EXPORTED not in [event.type for event in story.events]


class Refusing(Destination):
    """Wants nothing of any result."""

    def deliver(self, shipment: Shipment, turn: Turn = at_once) -> Receipt:
        return replace(super().deliver(shipment, turn), summary="not sent", sent=False)


def test_what_was_not_sent_is_done_and_no_export(make: Make) -> None:
    bed = make()
    perform(bed, Refusing())
    assert (delivery(bed).state, delivery(bed).summary) == (JobState.DONE, "not sent")
    story = bed.service.story(STUDY)
    assert story is not None
    assert EventType.EXPORTED not in [event.type for event in story.events]


def taken(ask: CommitmentAsk, reported: Reported) -> Answer:
    return Answer.TAKEN


def committed(*failed: str) -> Callable[[CommitmentAsk, Reported], Answer]:
    """Reports at once: all but `failed` is kept."""

    def answer(ask: CommitmentAsk, reported: Reported) -> Answer:
        kept = tuple(uid for _, uid in ask.instances if uid not in failed)
        lost = tuple((uid, 0x0112) for _, uid in ask.instances if uid in failed)
        assert reported(CommitmentReport(transaction_uid=ask.transaction_uid, committed=kept, failed=lost))
        return Answer.TAKEN

    return answer


REQUIRED = CommitmentPolicy(mode=Commitment.REQUIRED, timeout=timedelta(minutes=5), rounds=1)
IF_OFFERED = CommitmentPolicy(mode=Commitment.IF_OFFERED)


def test_a_job_is_done_when_all_is_committed(make: Make) -> None:
    bed = make(commitment=REQUIRED)
    peer = Committing(answers=[committed()])
    perform(bed, peer)
    assert peer.got == [ALL]
    assert [uid for _, uid in peer.asked[0].instances] == list(ALL)
    assert delivery(bed).state is JobState.DONE
    assert delivery(bed).summary == "2 instances stored, and committed by the destination"


def test_a_report_may_come_later_also_after_a_restart(make: Make) -> None:
    bed = make(commitment=REQUIRED)
    peer = Committing(answers=[taken])
    perform(bed, peer)
    assert (delivery(bed).state, wait_s(bed)) == (JobState.WAITING, 300)
    assert "waits for the report of storage commitment" in delivery(bed).last_error
    bed.clock.pass_(100)
    report = CommitmentReport(transaction_uid=peer.asked[0].transaction_uid, committed=ALL)
    assert bed.service.deliveries.report_commitment(report)
    assert bed.service.deliveries.report_commitment(report)
    perform(bed, peer)
    assert (delivery(bed).state, peer.got) == (JobState.DONE, [ALL])
    assert not bed.service.deliveries.report_commitment(
        CommitmentReport(transaction_uid="2.25.404", committed=())
    )


def test_what_never_was_answered_is_asked_again_and_not_sent_again(make: Make) -> None:
    bed = make(commitment=REQUIRED)
    peer = Committing(answers=[taken, committed()])
    perform(bed, peer)
    bed.clock.pass_(300)
    perform(bed, peer)
    assert (peer.got, len(peer.asked), delivery(bed).state) == ([ALL], 2, JobState.DONE)
    assert peer.asked[0].transaction_uid != peer.asked[1].transaction_uid


def test_who_never_reports_is_given_up_in_the_end(make: Make) -> None:
    bed = make(commitment=REQUIRED, give_up=timedelta(minutes=7))
    peer = Committing(answers=[taken, taken])
    for _ in range(3):
        perform(bed, peer)
        bed.clock.pass_(300)
    assert (len(peer.asked), delivery(bed).state) == (2, JobState.HELD)
    assert "given up: no report of storage commitment" in delivery(bed).last_error


def test_of_requests_that_nobody_answers_only_the_latest_are_kept(make: Make) -> None:
    bed = make(commitment=REQUIRED)
    peer = Committing(answers=[taken] * 20)
    for _ in range(20):
        perform(bed, peer)
        bed.clock.pass_(300)
    kept = workitem(bed).fates[delivery(bed).key].commitments
    assert [one.ask for one in kept] == peer.asked[-16:]
    late = CommitmentReport(transaction_uid=peer.asked[10].transaction_uid, committed=ALL)
    assert bed.service.deliveries.report_commitment(late)
    perform(bed, peer)
    assert delivery(bed).state is JobState.DONE


def test_what_is_not_committed_is_sent_again_alone(make: Make) -> None:
    bed = make(commitment=REQUIRED)
    peer = Committing(answers=[committed(SEG), committed()])
    perform(bed, peer)
    assert (delivery(bed).attempts, wait_s(bed)) == (1, 1)
    bed.clock.pass_(1)
    perform(bed, peer)
    assert peer.got == [ALL, (SEG,)]
    assert delivery(bed).state is JobState.DONE
    assert "1 kept; 1 not kept (0112)" in story_text(bed.service.story(STUDY))  # type: ignore[arg-type]


def test_what_is_never_committed_waits_for_a_person(make: Make) -> None:
    bed = make(commitment=REQUIRED)
    peer = Committing(answers=[committed(SEG), committed(SEG)])
    for _ in range(2):
        perform(bed, peer)
        bed.clock.pass_(10)
    assert delivery(bed).state is JobState.HELD
    assert delivery(bed).last_error == "1 instances are not committed by the destination: 0112"


def test_a_request_that_did_not_arrive_is_made_again_without_sending_again(make: Make) -> None:
    bed = make(commitment=REQUIRED)

    def lost(ask: CommitmentAsk, reported: Reported) -> Answer:
        raise down()

    peer = Committing(answers=[lost, committed()])
    perform(bed, peer)
    bed.clock.pass_(1)
    perform(bed, peer)
    assert (peer.got, delivery(bed).state) == ([ALL], JobState.DONE)


@pytest.mark.parametrize(
    ("policy", "state", "told"),
    [
        (IF_OFFERED, JobState.DONE, "2 instances stored; storage commitment is not offered"),
        (REQUIRED, JobState.HELD, "storage commitment is required, and the destination does not offer it"),
    ],
    ids=["if offered", "required"],
)
def test_destinations_without_commitment(
    make: Make, policy: CommitmentPolicy, state: JobState, told: str
) -> None:
    bed = make(commitment=policy)
    perform(bed, Committing(answers=[lambda ask, reported: Answer.NOT_OFFERED]))
    job = delivery(bed)
    assert (job.state, job.summary or job.last_error) == (state, told)
