"""The arguments of each request, checked, as values.

One function per verb. Each takes the parser's request and returns the values for the verb, or
raises :class:`trough.errors.BadRequest` (or a leaf of it) with a sentence for the user who typed
it. The verb checks whether a segment, schema or pattern exists.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from trough import errors
from trough.model import DEFAULT_SCHEMA, check_segment_id, is_segment_id, segment_of_word
from trough.protocols.limits import check_number_of_ids
from trough.protocols.line.framing import MARK, LineRequest
from trough.protocols.line.values import Parameters, decode_parameters, decode_tests
from trough.sql.column_filters import FilterTest
from trough.sql.row_merging import check_rules
from trough.util.quoting import quoted
from trough.util.slices import SLICE, in_slices


class Selection(NamedTuple):
    """The segments of a request: those named, or those whose id `pattern` is found in.

    :ivar segments: each once, in the order of the request; a long list as it came, for
        :func:`checked_ids`
    :ivar pattern: a regular expression, not compiled yet; None where ids were given
    """

    segments: tuple[str, ...]
    pattern: str | None = None


# This and the next are neither frozen nor tuples, for the same reason as Request.
@dataclass(slots=True)
class QueryArguments:
    """Of ``QUERY``.

    :ivar segments: see :class:`Selection`; likewise `pattern`
    :ivar seconds: the deadline that was asked for, or None
    :ivar rows: most rows of one segment, or None where the request names no limit
    :ivar parameters: for the statement's places, or None
    :ivar keep: whether the answer may come from what was kept, and be kept
    :ivar tests: with `keep`, what a segment needs to have rows
    :ivar trace: a ``traceparent`` of the W3C, or empty
    :ivar merge: rules by which rows of several segments become one; or empty
    """

    segments: tuple[str, ...]
    pattern: str | None
    seconds: float | None
    rows: int | None
    parameters: Parameters | None
    sql: str
    keep: bool = False
    tests: tuple[FilterTest, ...] = ()
    trace: str = ""
    merge: str = ""


@dataclass(slots=True)
class WriteArguments:
    """Of ``WRITE``; see :class:`QueryArguments`.

    :ivar passed: whether another worker passed it on; it is then not passed on again
    """

    segment: str
    seconds: float | None
    parameters: Parameters | None
    sql: str
    passed: bool = False


@dataclass(slots=True)
class GatherArguments:
    """Of ``GATHER``; see :class:`QueryArguments`.

    :ivar partial: whether to answer from the rest where segments fail
    :ivar within: whether rows of different segments never meet
    :ivar refuse_stale: whether to fail where a segment did not answer its present state
    :ivar each: whether each segment answers by itself
    """

    segments: tuple[str, ...]
    pattern: str | None
    sql: str
    parameters: Parameters | None = None
    seconds: float | None = None
    partial: bool = False
    within: bool = False
    refuse_stale: bool = False
    each: bool = False


def parse_query_arguments(request: LineRequest) -> QueryArguments:
    """``QUERY <ids|~pattern> [seconds=N] [rows=N] [keep=yes] [tests=JSON] [merge=RULES]
    [trace=ID] [bind=JSON] SQL``."""
    if (match := _ONE_SEGMENT.fullmatch(request.arguments)) is not None:
        segment, bind, text = match.groups()
        parameters = None if bind is None else decode_parameters(bind)
        try:
            sql = text.decode()
        except UnicodeDecodeError as error:
            raise _not_text(error) from error
        return QueryArguments((segment_argument(segment),), None, None, None, parameters, sql)
    words = Words(request)
    segments, pattern = _selection(words.next("the segments"))
    given = words.options(_QUERY_OPTIONS)
    seconds, rows, parameters = _settings(given)
    sql = words.rest("the SQL")
    keep = _yes_or_no(given, "keep")
    tests = decode_tests(given["tests"]) if "tests" in given else ()
    trace = _text(given.get("trace", b""))
    merge = check_rules(_text(given["merge"])) if "merge" in given else ""
    return QueryArguments(
        segments, pattern, seconds, rows, parameters, sql, keep, tests, trace, merge
    )


def parse_write_arguments(request: LineRequest) -> WriteArguments:
    """``WRITE <id> [seconds=N] [bind=JSON] [passed=yes] SQL``."""
    words = Words(request)
    segment = segment_argument(words.next("the segment"))
    given = words.options(_WRITE_OPTIONS)
    seconds, _, parameters = _settings(given)
    passed = bool(given) and _yes_or_no(given, "passed")
    return WriteArguments(segment, seconds, parameters, words.rest("the SQL"), passed)


def parse_gather_arguments(request: LineRequest) -> GatherArguments:
    """``GATHER <ids|~pattern> [partial=yes] [within=yes] [stale=refuse] [seconds=N] [bind=JSON]
    SQL``."""
    words = Words(request)
    segments, pattern = _selection(words.next("the segments"))
    given = words.options(_GATHER_OPTIONS)
    seconds, _, parameters = _settings(given)
    return GatherArguments(
        segments,
        pattern,
        words.rest("the SQL"),
        parameters,
        seconds,
        _yes_or_no(given, "partial"),
        _yes_or_no(given, "within"),
        refuses_stale(_text(given.get("stale", b"allow"))),
    )


def refuses_stale(word: str) -> bool:
    """What the option ``stale`` means.

    :raises trough.errors.BadRequest: it is neither ``refuse`` nor ``allow``
    """
    if word not in ("refuse", "allow"):
        raise errors.BadRequest(f"stale is {quoted(word, 40)}", "stale is refuse or allow")
    return word == "refuse"


def parse_where_arguments(request: LineRequest) -> Selection:
    """``WHERE <ids|~pattern>``."""
    words = Words(request)
    selection = _selection(words.next("the segments"))
    words.end()
    return selection


def parse_provision_arguments(request: LineRequest) -> tuple[str, str]:
    """``PROVISION <id> [schema=NAME]``: the segment and the schema's name."""
    words = Words(request)
    segment = segment_argument(words.next("the segment"))
    given = words.options(_PROVISION_OPTIONS)
    words.end()
    schema = given.get("schema")
    return segment, DEFAULT_SCHEMA.id if schema is None else _text(schema)


def parse_revert_arguments(request: LineRequest) -> tuple[str, bool]:
    """``REVERT <id> [preview=yes]``: the segment, and whether nothing is to be changed."""
    words = Words(request)
    segment = segment_argument(words.next("the segment"))
    given = words.options(_REVERT_OPTIONS)
    words.end()
    return segment, _yes_or_no(given, "preview")


def parse_segment_argument(request: LineRequest) -> str:
    """``PROMOTE <id>``, ``DELETE <id>``: the segment."""
    words = Words(request)
    segment = segment_argument(words.next("the segment"))
    words.end()
    return segment


def parse_word(request: LineRequest, what: str) -> str:
    """``SCHEMA <name>``, ``CANCEL <tag>``: the only argument, as it is.

    :param what: names it in the error where it is missing: ``the name``
    """
    words = Words(request)
    word = _text(words.next(what))
    words.end()
    return word


def parse_proof_arguments(request: LineRequest) -> tuple[str, str, str, str]:
    """``PROVE <token's id> <challenge> <proof> [nonce]``: these; no nonce is an empty one."""
    words = Words(request)
    proof = [_text(words.next(what)) for what in ("the id", "the challenge", "the proof")]
    nonce = _text(words.next("the nonce")) if words.are_left() else ""
    words.end()
    return proof[0], proof[1], proof[2], nonce


def parse_optional_word(request: LineRequest) -> str:
    """``HELP [verb]``: the only argument, or an empty string."""
    return parse_word(request, "a topic") if request.arguments.strip(b" ") else ""


def parse_put_schema_arguments(request: LineRequest) -> tuple[str, str]:
    """``PUT-SCHEMA <name> <SQL>``: name and SQL, which may be empty as a literal."""
    words = Words(request)
    return _text(words.next("the name")), words.rest("the SQL")


def parse_no_arguments(request: LineRequest) -> None:
    """``STATUS``, ``SCHEMAS``, ``PING``, ``QUIT``: nothing may follow."""
    Words(request).end()


_QUERY_OPTIONS = ("seconds", "rows", "keep", "tests", "merge", "trace", "bind")
_WRITE_OPTIONS = ("seconds", "bind", "passed")
_GATHER_OPTIONS = ("partial", "within", "stale", "seconds", "bind")
_PROVISION_OPTIONS = ("schema",)
_REVERT_OPTIONS = ("preview",)

# No statement of SQL begins with a word and an equals sign.
_OPTION = re.compile(rb"([A-Za-z][A-Za-z\-]*+)=([^ ]*+)(?: ++|\Z)")

# What most queries are: one segment, perhaps parameters, no literal. Two microseconds less.
_ONE_SEGMENT = re.compile(rb"([^ ,~\0]++) ++(?:bind=([^ \0]*+) ++)?(?![A-Za-z\-]++=)([^\0]++)")


class Words:
    """The arguments of a request, taken one after the other.

    A literal stands for its bytes and nothing in it separates.
    """

    __slots__ = ("_literals", "_text", "_verb")

    def __init__(self, request: LineRequest) -> None:
        self._verb = request.verb
        self._text = request.arguments
        self._literals = iter(request.literals) if request.literals else None

    def next(self, what: str) -> bytes:
        """The next word; `what` names it in the error where it is missing."""
        word, _, self._text = self._text.partition(b" ")
        if not word:
            self._text = self._text.lstrip(b" ")
            if not self._text:
                raise self._missing(what)
            word, _, self._text = self._text.partition(b" ")
        return word if self._literals is None else self._spliced(word)

    def options(self, allowed: tuple[str, ...]) -> Mapping[str, bytes]:
        """All ``name=value`` words that come next."""
        self._text = self._text.lstrip(b" ")
        match = _OPTION.match(self._text)
        if match is None:
            return {}
        given: dict[str, bytes] = {}
        while match is not None:
            name = match[1].decode().lower()
            if name not in allowed:
                known = ", ".join(f"{option}=" for option in allowed)
                raise errors.BadRequest(f"{self._verb} has no option {name}=", f"it has {known}")
            if name in given:
                raise errors.BadRequest(f"{name}= is given twice")
            given[name] = self._spliced(match[2])
            self._text = self._text[match.end() :]
            match = _OPTION.match(self._text)
        return given

    def rest(self, what: str) -> str:
        """Everything else, as text."""
        if not self._text:
            raise self._missing(what)
        return _text(self._text if self._literals is None else self._spliced(self._text))

    def are_left(self) -> bool:
        """Whether anything follows."""
        return bool(self._text.strip(b" "))

    def raw(self, what: str) -> bytes:
        """Everything else, as it is."""
        if not self._text:
            raise self._missing(what)
        return self._spliced(self._text)

    def end(self) -> None:
        """Make sure that there is nothing else."""
        if self.are_left():
            raise errors.BadRequest(f"{self._verb} has too many arguments", self._hint())

    def _spliced(self, text: bytes) -> bytes:
        if self._literals is None or MARK not in text:
            return text
        first, *pieces = text.split(MARK)
        return first + b"".join(next(self._literals) + piece for piece in pieces)

    def _missing(self, what: str) -> errors.BadRequest:
        return errors.BadRequest(f"{self._verb} without {what}", self._hint())

    def _hint(self) -> str:
        return f"HELP {self._verb} shows its usage"


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _not_text(error) from error


def _not_text(error: UnicodeDecodeError) -> errors.BadRequest:
    return errors.BadRequest(f"not UTF-8: byte {error.start} of an argument")


@functools.lru_cache(maxsize=1 << 14)
def segment_argument(word: bytes) -> str:
    """The id of one segment.

    :raises trough.errors.BadSegmentId: it is none, or several
    """
    # Remembered, for the same ones are asked over and over; what is no id is not.
    if b"," in word:
        raise errors.BadSegmentId(
            f"several segments where one is meant: {word[:80]!a}", "a comma in an id is %2C"
        )
    return check_segment_id(segment_of_word(_text(word)))


def _selection(word: bytes) -> Selection:
    if word.startswith(b"~"):
        return Selection((), _text(word)[1:])
    # A list may begin with a comma, for the sake of an id that begins with a tilde.
    word = word.removeprefix(b",")
    check_number_of_ids(word.count(b",") + 1)
    segments = _text(word).split(",")
    if len(segments) > SLICE:
        return Selection(tuple(segments))
    return Selection(tuple(dict.fromkeys(_checked(segments))))


def _checked(named: Sequence[Any], read: Callable[[Any], str] = segment_of_word) -> Sequence[str]:
    segments = [read(each) for each in named]
    if not all(map(is_segment_id, segments)):
        for segment in segments:
            check_segment_id(segment)
    return segments


async def checked_ids(
    segments: Sequence[Any], read: Callable[[Any], str] = segment_of_word
) -> tuple[str, ...]:
    """The segments of a request in the form of :class:`Selection`, for any number of them.

    :param read: makes an id of what stands in the request
    :raises trough.errors.BadSegmentId: one of them is none
    """
    if len(segments) > SLICE:
        segments = await in_slices(functools.partial(_checked, read=read), segments)
    return tuple(dict.fromkeys(segments))


def _settings(given: Mapping[str, bytes]) -> tuple[float | None, int | None, Parameters | None]:
    if not given:
        return None, None, None
    seconds, rows, bind = given.get("seconds"), given.get("rows"), given.get("bind")
    return (
        None if seconds is None else parse_seconds(_text(seconds)),
        None if rows is None else parse_rows(_text(rows)),
        None if bind is None else decode_parameters(bind),
    )


def _yes_or_no(given: Mapping[str, bytes], name: str) -> bool:
    told = given.get(name, b"no").lower()
    if told not in (b"yes", b"no"):
        raise errors.BadRequest(f"{name}={_text(told)[:40]}", "yes or no")
    return told == b"yes"


def parse_seconds(text: str) -> float:
    """A deadline, in seconds.

    :raises trough.errors.BadRequest: it is none
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not (seconds > 0 and math.isfinite(seconds)):
        raise errors.BadRequest(f"seconds={text[:40]}", "a number of seconds, more than 0")
    return seconds


def parse_rows(text: str) -> int:
    """A number of rows; 0 is no limit.

    :raises trough.errors.BadRequest: it is none
    """
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise errors.BadRequest(f"rows={text[:40]}", "a number of rows, or 0 for no limit")
    return int(text)
