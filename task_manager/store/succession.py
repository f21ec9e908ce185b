# SPDX-License-Identifier: Apache-2.0
"""Statements that let one workitem take the place of another. Each takes a connection; none commits."""

from __future__ import annotations

from sqlalchemy import Connection, and_, literal, select, update

from profiles.ups.states import ProcedureStepState
from task_manager.dispatch.leases import replaced_uids, replacement_uid
from task_manager.dispatch.model import SubtaskState
from task_manager.store.studies import upsert
from task_manager.store.tables import METADATA
from task_manager.store.workitems import workitem_by_uid
from task_manager.workitem.model import Workitem

_WORKITEM = METADATA.tables["workitem"]
_SUBSCRIPTION = METADATA.tables["subscription"]
_SUBTASK = METADATA.tables["subtask"]
_MOST_LOOKED_AT = 20


def carry_watchers(connection: Connection, old_uid: str, new_uid: str) -> None:
    """Subscribe to `new_uid` who watches `old_uid`, with the same lock; who watches it already stays so."""
    watchers = select(
        literal(new_uid),
        _SUBSCRIPTION.c.receiving_ae,
        _SUBSCRIPTION.c.deletion_lock,
        _SUBSCRIPTION.c.filtered,
        _SUBSCRIPTION.c.from_report,
    ).where(_SUBSCRIPTION.c.workitem_uid == old_uid)
    names = ["workitem_uid", "receiving_ae", "deletion_lock", "filtered", "from_report"]
    statement = upsert(connection, _SUBSCRIPTION).from_select(names, watchers)
    connection.execute(statement.on_conflict_do_nothing(index_elements=names[:2]))


def move_child(connection: Connection, old_uid: str, new_uid: str) -> None:
    """Let `new_uid` be the child that `old_uid` was, for parents that have not taken its end over."""
    connection.execute(
        update(_SUBTASK)
        .where(
            _SUBTASK.c.child_uid == old_uid,
            _SUBTASK.c.performer == "",
            _SUBTASK.c.state != SubtaskState.DONE.value,
        )
        .values(child_uid=new_uid, state=SubtaskState.OPEN.value)
    )


def successor(connection: Connection, workitem: Workitem, *, active: bool = False) -> Workitem | None:
    """The workitem that says it replaces `workitem`, the manager's own first; `active`: one not final.

    Others are looked for in the same study, or with the same patient; without both nothing is found, since
    the search would read the whole worklist.
    """
    ours = workitem_by_uid(connection, replacement_uid(workitem.uid))
    if ours is not None and not (active and ours.is_final):
        return ours
    row = connection.execute(
        select(_WORKITEM.c.study_instance_uid, _WORKITEM.c.patient_id).where(_WORKITEM.c.uid == workitem.uid)
    ).first()
    if row is None or not (row.study_instance_uid or row.patient_id):
        return None
    same = (
        _WORKITEM.c.study_instance_uid == row.study_instance_uid
        if row.study_instance_uid
        else and_(_WORKITEM.c.patient_id == row.patient_id, _WORKITEM.c.study_instance_uid == "")
    )
    wanted = [same, _WORKITEM.c.uid != workitem.uid, _WORKITEM.c.attributes.contains(workitem.uid)]
    if active:
        final = (ProcedureStepState.COMPLETED.value, ProcedureStepState.CANCELED.value)
        wanted.append(_WORKITEM.c.state.not_in(final))
    statement = select(_WORKITEM.c.uid).where(*wanted).order_by(_WORKITEM.c.created_at).limit(_MOST_LOOKED_AT)
    for uid in connection.execute(statement).scalars():
        found = workitem_by_uid(connection, uid)
        if found is not None and workitem.uid in replaced_uids(found.attributes):
            return found
    return None
