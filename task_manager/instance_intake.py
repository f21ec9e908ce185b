# SPDX-License-Identifier: Apache-2.0
"""Instances that come in. Success is answered only after bytes and record are durable.

Implements :class:`task_manager.ports.InstanceIntake`. Bytes are made durable by the thread of each door; the
records of all that arrive at the same time are one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from profiles import dicom_json
from profiles.faults import Fault
from task_manager.actor import Actor
from task_manager.errors import ConflictError, StoreError, facts_of
from task_manager.outcome import Accepted, RefusalCode, Refused, WarningCode
from task_manager.ports import ObjectStore, StagedObject
from task_manager.returning import finishes_work, take_back
from task_manager.store import arriving, fetches, studies
from task_manager.store.arriving import Move, Recorded, extend_studies
from task_manager.store.database import Connection, Database
from task_manager.store.gathering import Gathering
from task_manager.store.held import was_removed
from task_manager.study.assembly import after_instance, counts_for_assembly, only_moves
from task_manager.study.duplicate import same_data_set
from task_manager.study.header import header_from_start, read_header
from task_manager.study.model import Instance, InstanceHeader, Study, StudyState
from task_manager.study.sources import Policies

_LOG = logging.getLogger(__name__)
_TRIES = 3
_MOST_RECEIVING = 4096
_Copies = Sequence[tuple[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arrived:
    """A committed object to be recorded, if its UID has no other copies than it was `compared` with."""

    header: InstanceHeader
    path: str
    size: int
    source: str
    compared: _Copies


@dataclass(frozen=True, slots=True)
class _Compare:
    """An answer: there are other copies; nothing was recorded."""

    copies: _Copies


@dataclass(frozen=True, slots=True)
class _Receiving:
    """A study that receives: since when, and which of its series are recorded."""

    since: datetime
    series: frozenset[str] | set[str]


class _UnrecordedError(StoreError):
    """As that; and it is certain that nothing was recorded."""


class StoringIntake:
    """Receives instances into the store.

    Parameters
    ----------
    policies
        When to look whether a study is complete, by where its images come from.
    clock
        Gives aware UTC time.
    wake
        Called after commits that give a study its first deadline, so that the worker looks at it.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        *,
        policies: Policies,
        clock: Callable[[], datetime],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._objects = objects
        self._policies = policies
        self._clock = clock
        self._wake = wake
        self._receiving: dict[str, _Receiving] = {}
        self._records: Gathering[_Arrived, Accepted | _Compare] = Gathering(self._record)

    def stage(self) -> StagedObject:
        """Where to stream the bytes of one instance."""
        return self._objects.stage()

    def receive_instance(
        self,
        staged: StagedObject,
        *,
        actor: Actor,
        announced_sop_class_uid: str = "",
        announced_sop_instance_uid: str = "",
        study_instance_uid: str = "",
    ) -> Accepted | Refused:
        """Commit a staged instance and its record, or refuse and discard it.

        Raises
        ------
        StoreError
            If disk or database failed; nothing was acknowledged, the sender may try again.
        """
        header = header_from_start(staged.start, staged.size) or read_header(staged.path)
        if isinstance(header, Refused):
            staged.discard()
            return header
        faults = _disagreements(
            header, announced_sop_class_uid, announced_sop_instance_uid, study_instance_uid
        )
        if faults:
            staged.discard()
            return Refused(RefusalCode.SOP_CLASS_MISMATCH, faults)
        if staged.on_reserve and not finishes_work(self._database, header.study_instance_uid):
            staged.discard()
            return Refused(RefusalCode.NO_ROOM, (Fault("", "there is no room for new images"),))
        size = staged.size
        path = self._objects.commit(
            staged, study_instance_uid=header.study_instance_uid, sop_instance_uid=header.sop_instance_uid
        )
        try:
            accepted = self._recorded(header, path, size, actor.source)
        except StoreError as error:
            if self._is_unrecorded(header.sop_instance_uid, path, error):
                self._remove(path, staged)
            raise
        if WarningCode.DUPLICATE in accepted.warnings:
            self._remove(path, staged)
        else:
            staged.settle()
        return accepted

    def _remove(self, path: str, staged: StagedObject) -> None:
        self._objects.remove(path)
        staged.settle()

    def _is_unrecorded(self, sop_instance_uid: str, path: str, error: StoreError) -> bool:
        """Whether it is certain that a committed object has no record; else the next start looks at it."""
        if isinstance(error, _UnrecordedError | ConflictError):
            return True
        try:
            return all(kept != path for _, kept in self._copies(sop_instance_uid))
        except StoreError:
            return False

    def _recorded(self, header: InstanceHeader, path: str, size: int, source: str) -> Accepted:
        """Record a committed object, or find that it is one that is kept."""
        uid = header.sop_instance_uid
        copies: _Copies = ()
        for _ in range(_TRIES):
            arrived = _Arrived(header=header, path=path, size=size, source=source, compared=copies)
            try:
                answer = self._records.ask(arrived)
            except ConflictError:  # another process recorded something just now: look again
                answer = _Compare(self._copies(uid))
            if isinstance(answer, Accepted):
                return answer
            copies = answer.copies
            # an object that was lost may have left its name to this one
            others = [copy for copy in copies if copy[1] != path and not was_removed(copy[1])]
            removed = [number for number, kept in copies if was_removed(kept)]
            if removed and take_back(
                self._database, self._objects, uid, removed, path=path, size=size, now=self._clock()
            ):
                return Accepted(uid=uid, warnings=(WarningCode.RESTORED,))
            if self._is_among(others, self._objects.absolute(path)):
                return Accepted(uid=uid, warnings=(WarningCode.DUPLICATE,))
        raise _UnrecordedError("instance could not be recorded: others keep recording the same UID")

    def _copies(self, sop_instance_uid: str) -> _Copies:
        with self._database.read() as connection:
            return arriving.copies_of(connection, sop_instance_uid)

    def _is_among(self, copies: _Copies, path: Path) -> bool:
        """Whether one of `copies` has the data set of the file at `path`.

        Compared outside any transaction: reading large objects must not keep other doors from writing.
        """
        for _, kept in copies:
            try:
                if same_data_set(self._objects.absolute(kept), path):
                    return True
            except OSError as error:
                _LOG.error(
                    "a kept object cannot be read", extra={"action": "instance.lost", **facts_of(error)}
                )
        return False

    def _record(self, arrived: Sequence[_Arrived]) -> list[Accepted | _Compare]:
        """Record in one transaction what has only the copies it was compared with."""
        now = self._clock()
        if self._extend(arrived, now):
            extended: list[Accepted | _Compare] = [
                Accepted(uid=one.header.sop_instance_uid) for one in arrived
            ]
            _log(extended)
            return extended
        answers: list[Accepted | _Compare] = []
        changed = False
        assembled: list[tuple[Study, Sequence[_Arrived]]] = []
        with _certainty() as committing, self._database.write() as connection:
            answers, firsts = self._add(connection, arrived, now)
            # by UID: two processes with the same studies wait for each other in the same order
            for _, new in sorted(firsts.items()):
                study, is_due = self._assemble(connection, new, now)
                changed |= is_due
                if study is not None:
                    assembled.append((study, new))
            committing()
        for study, known in assembled:
            self._remember(study, known)
        if changed:
            self._wake()
        _log(answers)
        return answers

    def _extend(self, arrived: Sequence[_Arrived], now: datetime) -> bool:
        """Record what is new in series of studies that receive anyway, if it is nothing else: the usual case.

        What is known of them is what was committed last; the statements look whether that still holds.
        """
        moves: dict[str, Move] = {}
        recorded: dict[str, Recorded] = {}
        for one in arrived:
            header = one.header
            known = self._receiving.get(header.study_instance_uid)
            if one.compared or known is None or header.series_instance_uid not in known.series:
                return False
            if header.sop_instance_uid in recorded or not counts_for_assembly(header.sop_class_uid):
                return False
            recorded[header.sop_instance_uid] = Recorded(
                instance=_instance(header, one.path, one.size, now), copy_number=0, source=one.source
            )
            moves[header.study_instance_uid] = Move(
                study_instance_uid=header.study_instance_uid,
                receiving_since=known.since,
                now=now,
                deadline_at=self._policies.pause(one.source).after(now, known.since),
            )
        ordered = [move for _, move in sorted(moves.items())]
        with _certainty() as committing, self._database.write_plainly() as cursor:
            extended = extend_studies(cursor, list(recorded.values()), ordered)
            if not extended:
                cursor.give_up()
            committing()
        if not extended:
            for uid in moves:
                self._receiving.pop(uid, None)
        return extended

    def _remember(self, study: Study, new: Sequence[_Arrived]) -> None:
        """What later instances of a study need not ask for, once this is committed."""
        uid, since = study.study_instance_uid, study.receiving_since
        if since is None or not only_moves(study):
            self._receiving.pop(uid, None)
            return
        known = self._receiving.get(uid)
        series = {one.header.series_instance_uid for one in new}
        if len(self._receiving) >= _MOST_RECEIVING:
            self._receiving.clear()
        self._receiving[uid] = _Receiving(since, known.series | series if known is not None else series)

    def _add(
        self, connection: Connection, arrived: Sequence[_Arrived], now: datetime
    ) -> tuple[list[Accepted | _Compare], dict[str, list[_Arrived]]]:
        """Add instances and series; answers, and by study those of UIDs that were not known."""
        answers: list[Accepted | _Compare] = []
        recorded: list[Recorded] = []
        firsts: dict[str, list[_Arrived]] = {}
        taken: set[str] = set()
        for one in arrived:
            uid = one.header.sop_instance_uid
            copies = arriving.copies_of(connection, uid)
            if uid in taken or copies != list(one.compared):
                answers.append(_Compare(copies))
                continue
            taken.add(uid)
            instance = _instance(one.header, one.path, one.size, now)
            recorded.append(Recorded(instance=instance, copy_number=len(copies), source=one.source))
            if copies:
                answers.append(Accepted(uid=uid, warnings=(WarningCode.KEPT_APART,)))
            else:
                answers.append(Accepted(uid=uid))
                firsts.setdefault(one.header.study_instance_uid, []).append(one)
        arriving.add_instances(connection, recorded)
        arriving.add_series(connection, [one.header for new in firsts.values() for one in new])
        return answers, firsts

    def _assemble(
        self, connection: Connection, new: Sequence[_Arrived], now: datetime
    ) -> tuple[Study | None, bool]:
        """What new instances do to their study, and whether it has a deadline that it had not before."""
        first, rest = new[0], new
        known = studies.locked_study(connection, first.header.study_instance_uid)
        if self._is_only_kept(connection, known, first, now):
            return None, False
        begun = None
        if known is None:
            begun = after_instance(None, first.header, now=now, pause=self._policies.pause(first.source))
            if begun is None or not studies.add_study(connection, begun, **_numbers(begun)):
                known = studies.locked_study(connection, first.header.study_instance_uid)
            else:
                rest = new[1:]
        study, changed = known or begun, False
        for one in rest:
            after = after_instance(study, one.header, now=now, pause=self._policies.pause(one.source))
            if after is not None:
                study, changed = after, True
        if study is not None and changed:
            studies.put_study(connection, study, **_numbers(study))
        return study, known is None or known.deadline_at is None

    def _is_only_kept(
        self, connection: Connection, known: Study | None, first: _Arrived, now: datetime
    ) -> bool:
        """Whether new instances come by a fetch, and so neither begin nor reopen anything themselves."""
        if known is not None and known.state is StudyState.RECEIVING:
            return False
        is_kept = known is not None and known.state is StudyState.KEPT
        if not fetches.is_awaited(connection, first.header.study_instance_uid, now, is_kept=is_kept):
            return False
        if known is None:
            begun = after_instance(None, first.header, now=now, pause=self._policies.pause(first.source))
            if begun is not None:
                kept = replace(begun, state=StudyState.KEPT, deadline_at=None, receiving_since=None)
                studies.add_study(connection, kept, **_numbers(kept))
        return True


@contextmanager
def _certainty() -> Iterator[Callable[[], None]]:
    """Tells errors before a commit, which :meth:`committing` begins, from those that leave it open."""
    begun: list[bool] = []
    try:
        yield lambda: begun.append(True)
    except ConflictError:
        raise
    except StoreError as error:
        if not begun:
            raise _UnrecordedError(str(error)) from error
        raise


def _log(answers: Sequence[Accepted | _Compare]) -> None:
    """One line for each instance only where it is asked for: it would cost as much as the record."""
    detailed = _LOG.isEnabledFor(logging.DEBUG)
    for answer in answers:
        if isinstance(answer, _Compare):
            continue
        if answer.warnings:
            _LOG.warning("other bytes under a known UID kept apart", extra={"action": "instance.kept_apart"})
        if detailed:
            _LOG.debug("instance committed", extra={"action": "instance.received", "uid": answer.uid})


def _instance(header: InstanceHeader, path: str, size: int, now: datetime) -> Instance:
    number = dicom_json.first(header.attributes, "InstanceNumber")
    return Instance(
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        instance_number=number if isinstance(number, int) and abs(number) < 2**31 else None,
        path=path,
        size=size,
        received_at=now,
        attributes=header.attributes,
    )


def _numbers(study: Study) -> dict[str, str]:
    return {
        "patient_id": dicom_json.text(study.attributes, "PatientID"),
        "accession_number": dicom_json.text(study.attributes, "AccessionNumber"),
    }


def _disagreements(
    header: InstanceHeader, sop_class_uid: str, sop_instance_uid: str, study_instance_uid: str
) -> tuple[Fault, ...]:
    announced = (
        ("SOPClassUID", sop_class_uid, header.sop_class_uid),
        ("SOPInstanceUID", sop_instance_uid, header.sop_instance_uid),
        ("StudyInstanceUID", study_instance_uid, header.study_instance_uid),
    )
    return tuple(
        Fault(keyword, "data set and request name different UIDs")
        for keyword, said, found in announced
        if said and said != found
    )
