# SPDX-License-Identifier: Apache-2.0
"""Reading workitems as whole DICOM JSON texts, which are never parsed: what lasts of most is known already.

Takes a connection; commits nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from task_manager.store.compiled import Statement, pipelined
from task_manager.store.contents import Content, Contents
from task_manager.store.records import WITH_CONTENT
from task_manager.store.tables import METADATA
from task_manager.workitem.parts import whole_text

_WORKITEM = METADATA.tables["workitem"]
_CONTENT = METADATA.tables["workitem_content"]


class WholeTexts:
    """A SELECT of workitems.

    Parameters
    ----------
    narrowed
        Adds conditions and order, for a dialect, to a SELECT from the workitems.
    whole
        Whether all attributes are wanted, not the summary that a search returns.
    """

    def __init__(self, narrowed: Callable[[str, Any], Any], *, whole: bool = True) -> None:
        name = "attributes" if whole else "summary"
        moving = (_WORKITEM.c.uid, _WORKITEM.c.content_number, _WORKITEM.c[name])
        every = select(*moving, _CONTENT.c.attributes, _CONTENT.c.summary).select_from(WITH_CONTENT)
        self._whole = whole
        self._moving = Statement(lambda dialect: narrowed(dialect, select(*moving)))
        self._every = Statement(lambda dialect: narrowed(dialect, every))

    def read(
        self, connection: Connection, values: Mapping[str, Any], known: Contents | None = None
    ) -> list[tuple[bytes, bytes]]:
        """UID and text of each workitem, in the order of the SELECT; see :meth:`asked`."""
        with pipelined(connection):
            asked = self.asked(connection, values, known)
        return asked()

    def asked(
        self, connection: Connection, values: Mapping[str, Any], known: Contents | None = None
    ) -> Callable[[], list[tuple[bytes, bytes]]]:
        """Ask for the workitems; what :meth:`read` gives, to be called once it was pipelined.

        What is read becomes `known`: to be given in a transaction only that has written nothing. If the
        content of one is not known, all are read once more with theirs, as two statements may see two states
        and a content goes when it is renewed.
        """
        if known is None:
            every = self._every.asked_texts(connection, values)
            return lambda: self._joined(every(), None)
        moving = self._moving.asked_texts(connection, values)

        def collected() -> list[tuple[bytes, bytes]]:
            rows = moving()
            contents = [known.get(int(number)) for _, number, _ in rows]
            found = [content.text(whole=self._whole) for content in contents if content is not None]
            if len(found) < len(rows):
                return self._joined(self._every.texts(connection, values), known)
            return [(row[0], whole_text(text, row[2])) for row, text in zip(rows, found, strict=True)]

        return collected

    def _joined(self, every: list[tuple[bytes, ...]], known: Contents | None) -> list[tuple[bytes, bytes]]:
        read = [Content(attributes, summary) for *_, attributes, summary in every]
        if known is not None:
            known.add({int(row[1]): content for row, content in zip(every, read, strict=True)})
        return [
            (row[0], whole_text(content.text(whole=self._whole), row[2]))
            for row, content in zip(every, read, strict=True)
        ]
