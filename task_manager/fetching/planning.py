# SPDX-License-Identifier: Apache-2.0
"""What of a study has to be retrieved: what an archive names less what is here. Pure.

By series, so that a fetch that was interrupted goes on where it was, and single instances where a part of a
series is here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from task_manager.fetching.archives import Piece, RemoteSeries


def missing_pieces(
    study_instance_uid: str, remote: Sequence[RemoteSeries], held: Collection[str]
) -> tuple[Piece, ...]:
    """What is to be retrieved, in the order of the archive; an instance named twice is retrieved once."""
    pieces = []
    seen = set(held)
    for series in remote:
        wanted = {uid: kind for uid, kind in series.instances.items() if uid not in seen}
        seen.update(wanted)
        if wanted:
            pieces.append(
                Piece(
                    study_instance_uid=study_instance_uid,
                    series_instance_uid=series.series_instance_uid,
                    instances=wanted,
                    is_whole=len(wanted) == len(series.instances),
                )
            )
    return tuple(pieces)


def named_instances(remote: Sequence[RemoteSeries]) -> frozenset[str]:
    """The SOP Instance UIDs that an archive names."""
    return frozenset(uid for series in remote for uid in series.instances)
