# SPDX-License-Identifier: Apache-2.0
"""Regular expressions whose search time is linear in the text, whatever the pattern.

The values that rules look at come from outside; the pattern comes from a person. The backtracking engine of
the standard library can be made to run for hours by a short pattern, so patterns are compiled to a
non-deterministic automaton that is simulated one character at a time (K. Thompson, CACM 11(6), 1968).
Only the answer yes or no is needed: no groups are captured, no back-references, no look-around.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

MAXIMUM_PATTERN_LENGTH = 200
MAXIMUM_REPEAT = 64
_MAXIMUM_PROGRAM = 1000
_MAXIMUM_NESTING = 20

_ESCAPED_CLASSES = "dDwWsS"
_ESCAPED_CHARACTERS = {"t": "\t", "n": "\n", "r": "\r"}
_SPECIAL = set("|)*+?")


class PatternError(ValueError):
    """The text is no pattern of the supported syntax; the message says where and why."""


@dataclass(frozen=True, slots=True)
class _Set:
    """One character out of ranges and classes."""

    ranges: tuple[tuple[str, str], ...] = ()
    classes: tuple[str, ...] = ()
    negated: bool = False

    def holds(self, character: str, ignore_case: bool) -> bool:
        forms = {character, character.lower(), character.upper()} if ignore_case else {character}
        inside = any(low <= form <= high for form in forms for low, high in self.ranges) or any(
            _in_class(character, name) for name in self.classes
        )
        return inside != self.negated


@dataclass(frozen=True, slots=True)
class _Assertion:
    kind: str


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    options: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: _Node
    least: int
    most: int | None


_Node = _Set | _Assertion | _Sequence | _Choice | _Repeat


@dataclass(frozen=True, slots=True)
class _Jump:
    """Go on at any of the targets."""

    targets: tuple[int, ...]


_Instruction = _Set | _Assertion | _Jump
_ANY = _Set(ranges=(("\n", "\n"),), negated=True)


def _in_class(character: str, name: str) -> bool:
    holds = {"d": character.isdigit(), "w": character.isalnum() or character == "_", "s": character.isspace()}
    return holds[name] if name in holds else not holds[name.lower()]


class _Parser:
    """Recursive descent over the pattern; `nesting` bounds the recursion."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.nesting = 0

    def error(self, message: str) -> PatternError:
        return PatternError(f"{message} at character {self.at + 1}")

    def peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def take(self) -> str:
        character = self.peek()
        if not character:
            raise self.error("the pattern ends too early")
        self.at += 1
        return character

    def accept(self, expected: str) -> bool:
        if self.text.startswith(expected, self.at):
            self.at += len(expected)
            return True
        return False

    def choice(self) -> _Node:
        options = [self.sequence()]
        while self.accept("|"):
            options.append(self.sequence())
        return options[0] if len(options) == 1 else _Choice(tuple(options))

    def sequence(self) -> _Node:
        parts: list[_Node] = []
        while self.peek() not in ("", "|", ")"):
            parts.append(self.repeated())
        return _Sequence(tuple(parts))

    def repeated(self) -> _Node:
        part = self.single()
        bounds = self.bounds()
        if bounds is None:
            return part
        if isinstance(part, _Assertion):
            raise self.error("nothing to repeat")
        self.accept("?")  # lazy or greedy: the answer is the same
        if self.peek() in ("*", "+", "?"):
            raise self.error("a repeat of a repeat")
        return _Repeat(part, *bounds)

    def bounds(self) -> tuple[int, int | None] | None:
        for mark, found in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.accept(mark):
                return found
        if not self.accept("{"):
            return None
        least = self.number()
        most: int | None = least
        if self.accept(","):
            most = None if self.peek() == "}" else self.number()
        if not self.accept("}"):
            raise self.error("'{' without '}'")
        if most is not None and most < least:
            raise self.error("the upper bound of a repeat is below the lower one")
        return least, most

    def number(self) -> int:
        start = self.at
        while self.peek() and self.peek() in "0123456789":
            self.at += 1
        digits = self.text[start : self.at]
        if not digits:
            raise self.error("a number is missing in '{}'")
        if len(digits) > 3 or int(digits) > MAXIMUM_REPEAT:
            raise self.error(f"a repeat of more than {MAXIMUM_REPEAT}")
        return int(digits)

    def single(self) -> _Node:
        character = self.take()
        if character == "(":
            return self.group()
        if character == "[":
            return self.character_set()
        if character == ".":
            return _ANY
        if character in "^$":
            return _Assertion(character)
        if character == "\\":
            if self.peek() in ("b", "B"):
                return _Assertion(self.take())
            return self.escaped()
        if character in _SPECIAL:
            self.at -= 1
            raise self.error("nothing to repeat")
        return _Set(ranges=((character, character),))

    def group(self) -> _Node:
        if self.peek() == "?" and not self.accept("?:"):
            raise self.error("only (...) and (?:...) groups are supported")
        self.nesting += 1
        if self.nesting > _MAXIMUM_NESTING:
            raise self.error("groups are nested too deeply")
        inner = self.choice()
        if not self.accept(")"):
            raise self.error("'(' without ')'")
        self.nesting -= 1
        return inner

    def escaped(self) -> _Set:
        character = self.take()
        if character in _ESCAPED_CLASSES:
            return _Set(classes=(character,))
        if character in _ESCAPED_CHARACTERS:
            character = _ESCAPED_CHARACTERS[character]
        elif character.isalnum():
            raise self.error("this escape is not supported")
        return _Set(ranges=((character, character),))

    def character_set(self) -> _Set:
        negated = self.accept("^")
        ranges: list[tuple[str, str]] = []
        classes: list[str] = []
        first = True
        while first or self.peek() != "]":
            first = False
            low = self.set_member()
            if len(low.classes):
                classes.extend(low.classes)
                continue
            start = end = low.ranges[0][0]
            if self.peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.take()
                high = self.set_member()
                if high.classes or high.ranges[0][0] < start:
                    raise self.error("a bad range in '[]'")
                end = high.ranges[0][0]
            ranges.append((start, end))
        self.take()
        return _Set(tuple(ranges), tuple(classes), negated)

    def set_member(self) -> _Set:
        character = self.take()
        return self.escaped() if character == "\\" else _Set(ranges=((character, character),))


def _emit(node: _Node, program: list[_Instruction]) -> None:
    if len(program) > _MAXIMUM_PROGRAM:
        raise PatternError("the pattern is too large once its repeats are written out")
    match node:
        case _Set() | _Assertion():
            program.append(node)
        case _Sequence(parts):
            for part in parts:
                _emit(part, program)
        case _Choice(options):
            _emit_choice(options, program)
        case _Repeat(part, least, most):
            for _ in range(least):
                _emit(part, program)
            if most is None:
                start = len(program)
                program.append(_Jump(()))
                _emit(part, program)
                program.append(_Jump((start,)))
                program[start] = _Jump((start + 1, len(program)))
            else:
                forks = []
                for _ in range(most - least):
                    forks.append(len(program))
                    program.append(_Jump(()))
                    _emit(part, program)
                for fork in forks:
                    program[fork] = _Jump((fork + 1, len(program)))


def _emit_choice(options: tuple[_Node, ...], program: list[_Instruction]) -> None:
    fork = len(program)
    program.append(_Jump(()))
    starts: list[int] = []
    exits: list[int] = []
    for option in options:
        starts.append(len(program))
        _emit(option, program)
        exits.append(len(program))
        program.append(_Jump(()))
    program[fork] = _Jump(tuple(starts))
    for leaving in exits:
        program[leaving] = _Jump((len(program),))


def _asserts(kind: str, text: str, at: int) -> bool:
    if kind == "^":
        return at == 0
    if kind == "$":
        return at == len(text)
    before = at > 0 and _in_class(text[at - 1], "w")
    after = at < len(text) and _in_class(text[at], "w")
    return (before != after) == (kind == "b")


@cache
def compiled(pattern: str) -> Callable[[str], bool]:
    """A function that says whether `pattern` is found anywhere in a text.

    Supported: literals, ``.``, ``[...]``, ``\\d \\w \\s`` and their negations, ``^ $ \\b \\B``, groups,
    ``|``, ``* + ? {n,m}``, and a leading ``(?i)``. ``$`` is the very end of the text.

    Raises
    ------
    PatternError
        If the pattern is malformed, too long or uses anything else.
    """
    if len(pattern) > MAXIMUM_PATTERN_LENGTH:
        raise PatternError(f"the pattern is longer than {MAXIMUM_PATTERN_LENGTH} characters")
    parser = _Parser(pattern)
    ignore_case = parser.accept("(?i)")
    tree = parser.choice()
    if parser.at < len(pattern):
        raise parser.error("')' without '('")
    program: list[_Instruction] = []
    _emit(tree, program)
    if len(program) > _MAXIMUM_PROGRAM:
        raise PatternError("the pattern is too large once its repeats are written out")
    return lambda text: _found(tuple(program), text, ignore_case)


def _found(program: tuple[_Instruction, ...], text: str, ignore_case: bool) -> bool:
    """Simulate all states at once; a new search starts at every character."""
    active: set[int] = set()
    for at in range(len(text) + 1):
        waiting = [0, *active]
        reached: set[int] = set()
        active = set()
        while waiting:
            state = waiting.pop()
            if state in reached:
                continue
            reached.add(state)
            if state == len(program):
                return True
            match program[state]:
                case _Jump(targets):
                    waiting.extend(targets)
                case _Assertion(kind):
                    if _asserts(kind, text, at):
                        waiting.append(state + 1)
                case _Set() as wanted:
                    if at < len(text) and wanted.holds(text[at], ignore_case):
                        active.add(state + 1)
    return False
