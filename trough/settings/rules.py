"""Rules that say something about single segments: data, never code.

A settings file lists rules; the first one that a segment's id matches counts. A rule
looks at the id alone, either by a regular expression that is searched for in it, or
by a range of numbers where the id is one. Rules are checked whole when they are
read: asking one afterwards cannot fail.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import yaml

from trough.settings.kinds import Flag, Integer, Parsed, SettingKind, ValidationError
from trough.util.quoting import quoted

T = TypeVar("T")

#: More copies of one segment than this is a slip of the finger.
MOST_COPIES = 64


@dataclass(frozen=True, slots=True)
class Rule(Generic[T]):
    """One rule.

    :ivar pattern: searched for in the id; None for a rule by number
    :ivar first: lowest number, None for no limit; likewise `last`
    :ivar answer: what the rule says about the segments that it matches
    """

    pattern: re.Pattern[str] | None
    first: int | None
    last: int | None
    answer: T

    def matches(self, segment: str) -> bool:
        """Whether this rule speaks of `segment`."""
        if self.pattern is not None:
            return self.pattern.search(segment) is not None
        if not (segment.isascii() and segment.isdigit()):
            return False
        number = int(segment)
        return (self.first is None or number >= self.first) and (
            self.last is None or number <= self.last
        )


def first_answer(rules: Sequence[Rule[T]], segment: str, otherwise: T) -> T:
    """What the first rule that matches `segment` says, or `otherwise`."""
    for rule in rules:
        if rule.matches(segment):
            return rule.answer
    return otherwise


def rules_kind(name: str, answer: SettingKind, example: str) -> Parsed:
    """The kind of setting that is a list of rules.

    :param name: the key of a rule that holds its answer
    :param answer: what that answer may be
    :param example: one rule, as YAML
    """

    def parse(value: object) -> tuple[Rule[object], ...]:
        if not isinstance(value, list):
            raise ValidationError("it is no list")
        return tuple(
            _rule(f"rule {number}", rule, name, answer) for number, rule in enumerate(value, 1)
        )

    return Parsed(
        f"a list of rules such as {example}, each with either match (a regular expression) "
        f"or from and to (whole numbers, one of them may be left out), and {name}: "
        f"{answer.allowed}",
        parse,
        _read_yaml,
    )


def _read_yaml(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValidationError("it is not YAML") from error


def _rule(place: str, rule: object, name: str, answer: SettingKind) -> Rule[object]:
    if not isinstance(rule, Mapping):
        raise ValidationError(f"{place} is {quoted(rule)}, and not a mapping")
    known = ["match", "from", "to", name]
    for key in rule:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            guess = f"; did you mean {quoted(near[0])}?" if near else ""
            raise ValidationError(f"{place} has an unknown key {quoted(key)}{guess}")
    if name not in rule:
        raise ValidationError(f"{place} lacks {quoted(name)}")
    try:
        answered = answer.from_file(rule[name])
    except ValidationError as error:
        raise ValidationError(f"{place} has {name}: {quoted(rule[name])}") from error
    if ("match" in rule) == ("from" in rule or "to" in rule):
        raise ValidationError(f"{place} has to have either 'match', or 'from' and 'to'")
    if "match" in rule:
        return Rule(_pattern(place, rule["match"]), None, None, answered)
    first, last = (_number(place, end, rule.get(end)) for end in ("from", "to"))
    if first is not None and last is not None and first > last:
        raise ValidationError(f"{place} is from {first} to {last}, which is empty")
    if first is None and last is None:
        raise ValidationError(f"{place} has neither 'from' nor 'to'")
    return Rule(None, first, last, answered)


def _pattern(place: str, pattern: object) -> re.Pattern[str]:
    if not isinstance(pattern, str):
        raise ValidationError(f"{place} has match: {quoted(pattern)}, which is no text (quote it)")
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValidationError(f"{place} has match: {quoted(pattern)}, {error}") from error


def _number(place: str, end: str, value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ValidationError(f"{place} has {end}: {quoted(value)}, which is no whole number")


COPIES = rules_kind("copies", Integer(1, MOST_COPIES), "{match: '^ait-', copies: 3}")
COLD = rules_kind("cold", Flag(), "{from: 1, to: 299999, cold: true}")
