# SPDX-License-Identifier: Apache-2.0
"""The Native DICOM Model (PS3.19 A.1) to and from DICOM JSON: the XML form of a data set.

Translates the frame only; whether values fit is asked where DICOM JSON is read. What comes in is hostile: no
document type, no entities, and size, depth, elements and value numbers have limits. Private attributes are
written with their creator and block 00, as the model asks, and get a block again when read.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from profiles.dicom_json import DicomJson, tag_key

NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"
MAX_ELEMENTS = 200_000
MAX_LEVELS = 80
MAX_VALUES = 10_000

_HEAD = f'<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xmlns="{NAMESPACE}" xml:space="preserve">'
_TAIL = "</NativeDicomModel>\n"
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_VR = re.compile(r"[A-Z]{2}")
_WHOLE = re.compile(r"\s*[+-]?\d{1,20}\s*", re.ASCII)
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WHOLE_VRS = frozenset({"SL", "SS", "SV", "UL", "US", "UV"})
_REAL_VRS = frozenset({"FL", "FD"})


class NativeXmlError(ValueError):
    """The text is no Native DICOM Model; `where` is a line and column or a path of tags."""

    def __init__(self, where: str, message: str) -> None:
        self.where = where
        super().__init__(message)


# Writing


def write(attributes: DicomJson, keyword_of: Callable[[str], str]) -> bytes:
    """The model of one data set, UTF-8; `keyword_of` gives the keyword of a tag or nothing."""
    return "".join([_HEAD, *_attributes(attributes, keyword_of), _TAIL]).encode()


def _attributes(attributes: DicomJson, keyword_of: Callable[[str], str]) -> Iterator[str]:
    creators = {tag[:4] + tag[6:]: _creator(element) for tag, element in attributes.items() if _reserves(tag)}
    for tag, element in attributes.items():
        creator = creators.get(tag[:6]) if _is_private(tag) else None
        if _reserves(tag) and creators[tag[:4] + tag[6:]]:
            continue
        shown = f"{tag[:4]}00{tag[6:]}" if creator else tag
        keyword = keyword_of(tag)
        yield f'<DicomAttribute tag="{shown}" vr="{element["vr"]}"'
        yield f' keyword="{keyword}"' if keyword else ""
        yield f' privateCreator="{_escaped(creator)}">' if creator else ">"
        yield from _content(element, keyword_of)
        yield "</DicomAttribute>"


def _content(element: DicomJson, keyword_of: Callable[[str], str]) -> Iterator[str]:
    if "InlineBinary" in element:
        yield f"<InlineBinary>{_escaped(element['InlineBinary'])}</InlineBinary>"
    elif "BulkDataURI" in element:
        yield f'<BulkData uri="{_escaped(element["BulkDataURI"])}"/>'
    vr = element["vr"]
    for number, value in enumerate(element.get("Value", ()), start=1):
        if vr == "SQ":
            yield f'<Item number="{number}">'
            yield from _attributes(value, keyword_of)
            yield "</Item>"
        elif value is None:
            continue
        elif vr == "PN":
            yield f'<PersonName number="{number}">'
            for group in _NAME_GROUPS:
                if group in value:
                    yield from _name_group(group, value[group])
            yield "</PersonName>"
        else:
            yield f'<Value number="{number}">{_escaped(value)}</Value>'


def _name_group(group: str, text: str) -> Iterator[str]:
    yield f"<{group}>"
    for part, name in zip(text.split("^"), _NAME_PARTS, strict=False):
        if part:
            yield f"<{name}>{_escaped(part)}</{name}>"
    yield f"</{group}>"


def _escaped(value: object) -> str:
    return html.escape(_NO_XML.sub(" ", str(value))).replace("\r", "&#13;")


def _is_private(tag: str) -> bool:
    return tag[3] in "13579BDF"


def _reserves(tag: str) -> bool:
    """Whether a tag is that of a Private Creator (PS3.5 7.8.1)."""
    return _is_private(tag) and tag[4:6] == "00" and tag[6:] >= "10"


def _creator(element: DicomJson) -> str:
    value = element.get("Value")
    return value[0].strip() if value and isinstance(value[0], str) else ""


# Reading


@dataclass(slots=True)
class _Node:
    name: str
    given: Mapping[str, str]
    children: list[_Node] = field(default_factory=list)
    text: list[str] = field(default_factory=list)


class _Builder:
    """Makes a tree of the elements, within limits."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._forbidden
        self._parser.EntityDeclHandler = self._forbidden
        self._parser.ProcessingInstructionHandler = self._forbidden
        self._open: list[_Node] = []
        self._root: _Node | None = None
        self._count = 0

    def build(self, text: bytes) -> _Node:
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            raise NativeXmlError(self._where(), "is not well-formed XML") from error
        except (LookupError, ValueError) as error:
            if isinstance(error, NativeXmlError):
                raise
            raise NativeXmlError(self._where(), "is in an unknown character set") from error
        if self._root is None:
            raise NativeXmlError("", "holds no element")
        return self._root

    def _where(self) -> str:
        return f"line {self._parser.CurrentLineNumber} column {self._parser.CurrentColumnNumber + 1}"

    def _start(self, name: str, given: dict[str, str]) -> None:
        space, _, local = name.rpartition(" ")
        self._count += 1
        if space not in ("", NAMESPACE):
            raise NativeXmlError(self._where(), "is an element of another namespace")
        if self._count > MAX_ELEMENTS:
            raise NativeXmlError(self._where(), f"has more than {MAX_ELEMENTS} elements")
        if len(self._open) >= MAX_LEVELS:
            raise NativeXmlError(self._where(), f"is nested deeper than {MAX_LEVELS} elements")
        node = _Node(local, given)
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node
        self._open.append(node)

    def _end(self, name: str) -> None:
        del name
        self._open.pop()

    def _characters(self, text: str) -> None:
        self._open[-1].text.append(text)

    def _forbidden(self, *details: object) -> None:
        del details
        raise NativeXmlError(self._where(), "has a document type, an entity or a processing instruction")


def read(text: bytes) -> DicomJson:
    """The data set of one model, in DICOM JSON, its values not yet checked.

    Raises
    ------
    NativeXmlError
        If it is not a Native DICOM Model, or beyond the limits.
    """
    root = _Builder().build(text)
    if root.name != "NativeDicomModel":
        raise NativeXmlError("", "needs NativeDicomModel as its root")
    return _read_attributes(root, "")


def _read_attributes(parent: _Node, path: str) -> DicomJson:
    attributes: DicomJson = {}
    creators: dict[tuple[str, str], str] = {}
    for node in parent.children:
        where = f"{path}.{node.name}" if path else node.name
        if node.name != "DicomAttribute":
            raise NativeXmlError(where, "is not expected here; attributes are")
        tag = _tag(node, where)
        creator = node.given.get("privateCreator", "").strip()
        if creator and _is_private(tag) and tag[4:6] == "00":
            tag = tag[:4] + _block(tag[:4], creator, creators, attributes, where) + tag[6:]
        if tag in attributes:
            raise NativeXmlError(f"{path}.{tag}" if path else tag, "is given twice")
        attributes[tag] = _read_attribute(node, f"{path}.{tag}" if path else tag)
    return dict(sorted(attributes.items()))


def _tag(node: _Node, where: str) -> str:
    tag, keyword = node.given.get("tag", ""), node.given.get("keyword", "")
    if _TAG.fullmatch(tag):
        return tag.upper()
    if not tag and keyword:
        try:
            return tag_key(keyword)
        except KeyError:
            raise NativeXmlError(where, "names no attribute by its keyword") from None
    raise NativeXmlError(where, "needs a tag of eight hexadecimal digits")


def _block(
    group: str, creator: str, creators: dict[tuple[str, str], str], attributes: DicomJson, where: str
) -> str:
    """The block of a private creator, reserved now if it was not yet (PS3.5 7.8.1)."""
    known = creators.get((group, creator))
    if known is not None:
        return known
    for number in range(0x10, 0x100):
        block = f"{number:02X}"
        reserved = attributes.get(f"{group}00{block}")
        if reserved is None:
            attributes[f"{group}00{block}"] = {"vr": "LO", "Value": [creator]}
        elif _creator(reserved) != creator:
            continue
        creators[group, creator] = block
        return block
    raise NativeXmlError(where, "finds no free block of private attributes")


def _read_attribute(node: _Node, path: str) -> DicomJson:
    vr = node.given.get("vr", "")
    element: DicomJson = {"vr": vr} if _VR.fullmatch(vr) else {}
    content = [child for child in node.children if child.name in ("Value", "PersonName", "Item")]
    for child in node.children:
        if child.name == "InlineBinary":
            element["InlineBinary"] = "".join("".join(child.text).split())
        elif child.name == "BulkData":
            element["BulkDataURI"] = child.given.get("uri", "")
        elif child.name not in ("Value", "PersonName", "Item"):
            raise NativeXmlError(f"{path}.{child.name}", "is not expected in an attribute")
    if content:
        element["Value"] = _values(content, vr, path)
    return element


def _values(content: list[_Node], vr: str, path: str) -> list[object]:
    numbered: dict[int, object] = {}
    for index, child in enumerate(content):
        text = child.given.get("number", "")
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else index + 1
        where = f"{path}[{number - 1}]"
        if not 0 < number <= MAX_VALUES:
            raise NativeXmlError(path, f"has a value number that is not 1 to {MAX_VALUES}")
        if number in numbered:
            raise NativeXmlError(where, "is given twice")
        if child.name == "Item":
            numbered[number] = _read_attributes(child, where)
        elif child.name == "PersonName":
            numbered[number] = _name(child, where)
        else:
            numbered[number] = _value("".join(child.text), vr)
    return [numbered.get(number) for number in range(1, max(numbered) + 1)]


def _value(text: str, vr: str) -> object:
    """`text` as DICOM JSON has it; what is no number stays text, a fault for whoever checks it."""
    if vr in _WHOLE_VRS and _WHOLE.fullmatch(text):
        return int(text)
    if vr in _REAL_VRS and len(text) <= 64:
        try:
            return float(text)
        except ValueError:
            return text
    return text


def _name(node: _Node, where: str) -> DicomJson:
    groups: DicomJson = {}
    for group in node.children:
        if group.name not in _NAME_GROUPS or group.name in groups:
            raise NativeXmlError(where, "is no person name of three groups")
        parts = {part.name: "".join(part.text).strip() for part in group.children}
        if not parts.keys() <= set(_NAME_PARTS):
            raise NativeXmlError(where, "has an unknown component of a name")
        groups[group.name] = "^".join(parts.get(name, "") for name in _NAME_PARTS).rstrip("^")
    return groups
