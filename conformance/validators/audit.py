# SPDX-License-Identifier: Apache-2.0
"""The grammar of DICOM audit messages, and what a message breaks of it.

The grammar is ``conformance/data/audit_message.rng``, written from PS3.15 A.5. Messages come from outside: no
entity is resolved, nothing is fetched, and size is bounded.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from lxml import etree

LARGEST_MESSAGE_BYTES = 4 * 1024 * 1024
GRAMMAR_PATH = Path(__file__).resolve().parents[1] / "data" / "audit_message.rng"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def audit_message_faults(message: bytes | str) -> list[str]:
    """Return every way in which an audit message breaks the grammar; empty when it is valid.

    Parameters
    ----------
    message : bytes or str
        The XML, as MSG of a syslog message carries it; a byte order mark is allowed.

    References
    ----------
    PS3.15 A.5.1 (schema), A.5.2 (conventions); RFC 5424 6.4 (byte order mark).
    """
    content = message.encode("utf-8") if isinstance(message, str) else message
    content = content.removeprefix(_BYTE_ORDER_MARK).strip()
    if len(content) > LARGEST_MESSAGE_BYTES:
        return [f"the message has more than {LARGEST_MESSAGE_BYTES} bytes"]
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        document = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        return [f"not well-formed: {error.msg}"]
    if document.getroottree().docinfo.doctype:
        return ["a document type declaration is not part of an audit message"]
    grammar = _grammar()
    if grammar.validate(document):
        return []
    return [
        f"line {entry.line}: {entry.message}" if entry.line else entry.message for entry in grammar.error_log
    ]


@lru_cache(maxsize=1)
def _grammar() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(str(GRAMMAR_PATH)))
