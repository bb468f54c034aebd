"""The words of Trough: the rules for names, stated once, and where copies lie."""

from __future__ import annotations

import dataclasses
from functools import partial
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trough import model
from trough.errors import BadSegmentId
from trough.metadata.rethinkdb import rows
from trough.model import (
    MAX_NODE_NAME,
    MAX_SEGMENT_ID,
    READ,
    WRITE,
    canonical_path,
    check_node_name,
    check_segment_id,
    is_segment_id,
    line_host_and_port,
    segment_named,
    segment_of_word,
    segment_word,
)

GOOD_IDS = ["300001", "__unspecified__", "ait-seed-1234", "a.b", "A", "a", "a..b", "x~y@z=1"]
GOOD_IDS += ["-", "_", "a...", "a" * MAX_SEGMENT_ID, "~", "@", "="]

GOOD_IDS += [
    "crawl 2026",
    " a",
    "a ",
    " ",
    "a,b",
    ",",
    "a%41",
    "%",
    "a?b",
    "a#b",
    "a&b",
    "a+b",
    "a'b",
]
GOOD_IDS += [
    'a"b',
    "a*",
    "a\\b",
    "a;b",
    "a|b",
    "a$b",
    "omü",
    "\u0661",
    "\u200b",
    "\u3000",
]
GOOD_IDS += [
    "\u0645\u06cc\u200c\u0634",
    "\U0001f577",
    "ü" * (MAX_SEGMENT_ID // 2),
    "-wal",
    "a.sqlite",
]

BAD_IDS: list[object] = [
    "",
    "a" * (MAX_SEGMENT_ID + 1),
    "ü" * MAX_SEGMENT_ID,
    "/",
    "a/b",
    "..",
    ".",
]
BAD_IDS += [
    "a\x00",
    "a\n",
    "\na",
    "difft\n",
    "a\t",
    "a\x7f",
    "a\x1b[0m",
    "a\x85",
    "a:b",
    "*",
    "a\u0301",
    "\u2126",
    ".hidden",
]
BAD_IDS += ["a\udc80", "\u2028", "\u202e", "\u2066", "\ufeffa", "\ufffd", "a#LATEST"]
BAD_IDS += [None, 300001, b"300001", True, ["a"]]

GOOD_NODES = ["w01", "worker-1.example.org", "W_1", "1", "a" * MAX_NODE_NAME]
BAD_NODES: list[object] = ["", "a" * (MAX_NODE_NAME + 1), ".a", "a b", "a/b", "a:1", "a@b", "a~"]
BAD_NODES += ["a=b", "ä", "a\n", None, 7, b"w01"]


@pytest.mark.parametrize("text", GOOD_IDS)
def test_segment_ids(text: str) -> None:
    """Ids that are in use pass, unchanged."""
    assert check_segment_id(text) is text
    assert is_segment_id(text)


@pytest.mark.parametrize("text", BAD_IDS)
def test_what_is_no_segment_id(text: object) -> None:
    """Everything else is refused, naming it and the rule, in printable ASCII."""
    with pytest.raises(BadSegmentId) as caught:
        check_segment_id(text)
    assert caught.value.hint == model.SEGMENT_ID_RULE
    assert ascii(text)[:50] in caught.value.message
    assert caught.value.message.isprintable() and caught.value.message.isascii()
    assert len(caught.value.message) < 200
    if isinstance(text, str):
        assert not is_segment_id(text)


@pytest.mark.parametrize("text", GOOD_NODES)
def test_node_names(text: str) -> None:
    """Names of machines pass, unchanged."""
    assert check_node_name(text) is text


@pytest.mark.parametrize("text", BAD_NODES)
def test_what_is_no_node_name(text: object) -> None:
    """Everything else is refused, naming it and the rule."""
    with pytest.raises(BadSegmentId) as caught:
        check_node_name(text)
    assert caught.value.hint == model.NODE_NAME_RULE
    assert ascii(text)[:50] in caught.value.message


def test_a_huge_name_is_not_repeated_whole() -> None:
    """An error about a megabyte of id is a line, and says how long the id was."""
    with pytest.raises(BadSegmentId) as caught:
        check_segment_id("a" * 1_000_000)
    assert len(str(caught.value)) < 400
    assert "1000002 characters" in caught.value.message


def test_the_rules_say_their_limits() -> None:
    """The sentence that a person reads has the numbers that the check has."""
    assert f"1 to {MAX_SEGMENT_ID} bytes" in model.SEGMENT_ID_RULE
    assert f"1 to {MAX_NODE_NAME} characters" in model.NODE_NAME_RULE


def test_the_longest_names_make_a_key_of_rethinkdb() -> None:
    """The write lock's key has existing clients' form; of longer keys a digest is the end."""
    node, segment = "x" * MAX_NODE_NAME, "ü" * (MAX_SEGMENT_ID // 2)
    assert len(rows.lock_id(segment).encode()) <= rows.MAX_KEY
    for key_of in (rows.assignment_id, partial(rows.copy_id, WRITE), partial(rows.copy_id, READ)):
        key = key_of(node, segment)
        assert node in key and len(key.encode()) <= rows.MAX_KEY
        assert key != key_of(node, segment[:-1] + "u")
        assert key_of("w1", "x" * 64).endswith("w1:" + "x" * 64)


ids = st.one_of(
    st.text(max_size=130), st.text(" ,~%&#+?;\\'\"*@=.:/-\u0301ü\u00df\U0001f577aA", max_size=20)
)


@given(ids)
def test_an_id_is_a_file_name_a_url_part_and_a_word(text: str) -> None:
    """Whatever the rule lets pass is a name for every engine, and comes back from every form."""
    if not is_segment_id(text):
        return
    assert "/" not in text and ":" not in text and not text.startswith(".")
    assert len(f".{text}.sqlite.{'0' * 16}.unfinished".encode()) <= 255
    assert text.splitlines() == [text]
    word = segment_word(text)
    assert word.isascii() and word.isprintable() and not set(word) & set(" ,&#+?;/")
    assert segment_of_word(word) == text
    assert dict(parse_qsl(f"segment={word}", keep_blank_values=True)) == {"segment": text}
    *directories, name = canonical_path(text).split("/")
    assert name == f"{text}.sqlite" and directories == [text[:-3]] * (len(text) > 3)


@pytest.mark.parametrize("value", [0, 300123, 10**30, "300123", "0300"])
def test_a_number_names_the_segment_of_its_text(value: object) -> None:
    """Clients send ``{"segment": 300123}``."""
    assert segment_named(value) == str(value)


@pytest.mark.parametrize("value", [True, False, -1, 1.0, 1.5, 1e300, None, [], {}, ""])
def test_no_other_value_names_a_segment(value: object) -> None:
    """It is refused, with the reason."""
    with pytest.raises(BadSegmentId, match=r"of numbers, only|no text|empty"):
        segment_named(value)


@pytest.mark.parametrize(
    ("segment", "path"),
    [
        ("300001", "300/300001.sqlite"),
        ("1234", "1/1234.sqlite"),
        ("123", "123.sqlite"),
        ("a", "a.sqlite"),
        ("ait-seed-1234", "ait-seed-1/ait-seed-1234.sqlite"),
        ("__unspecified__", "__unspecifie/__unspecified__.sqlite"),
    ],
)
def test_canonical_paths(segment: str, path: str) -> None:
    """A segment lies where the original system put it."""
    assert canonical_path(segment) == path


def test_upper_and_lower_case_stay_apart() -> None:
    """Ids that differ in case are two segments with two paths."""
    assert canonical_path("ABCD") != canonical_path("abcd")


def test_versions_are_ordered_by_time() -> None:
    """A copy modified later is the later version, whatever its size."""
    older = model.CanonicalCopy("s", "s.sqlite", 900, 1000)
    newer = model.CanonicalCopy("s", "s.sqlite", 100, 1001)
    assert older.version < newer.version


def test_an_assignment_names_the_version_to_hold() -> None:
    """An assignment's canonical copy is the one that the leader saw."""
    row = model.Assignment("s", "w01", 0, "x/s.sqlite", 5, 77)
    assert row.canonical == model.CanonicalCopy("s", "x/s.sqlite", 5, 77)


@pytest.mark.parametrize(
    "value",
    [
        model.Worker("w01"),
        model.Copy("s", "w01", model.READ, "http://w01/"),
        model.Lock("s", "w01", 1),
        model.Assignment("s", "w01", 0, "s.sqlite"),
        model.CanonicalCopy("s", "s.sqlite", 1, 1),
        model.Leader("s1", "x", "http://s1/"),
        model.DEFAULT_SCHEMA,
    ],
)
def test_values_are_frozen_and_compare(value: object) -> None:
    """The parts can hand each other these without fear, and use them as keys."""
    assert dataclasses.is_dataclass(value) and not isinstance(value, type)
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "other")
    same = dataclasses.replace(value)
    other = dataclasses.replace(value, **{name: "other"})
    assert same == value and same is not value and hash(same) == hash(value)
    assert other != value and getattr(other, name) == "other"


def test_the_default_schema_is_empty() -> None:
    """The schema that always exists creates nothing."""
    assert (model.DEFAULT_SCHEMA.id, model.DEFAULT_SCHEMA.sql) == ("default", "")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("w1:6440", ("w1", 6440, False)),
        ("tls://w1:6440", ("w1", 6440, True)),
        ("tls://[::1]:6440", ("::1", 6440, True)),
        ("[::1]:1", ("::1", 1, False)),
    ],
)
def test_an_address_of_the_line_protocol(address, parts):
    """It tells host, port, and whether TLS is spoken."""
    assert line_host_and_port(address) == parts


@pytest.mark.parametrize("address", ["", "w1", "w1:", ":6440", "tls://", "tls://w1", "w1:x"])
def test_what_is_no_such_address(address):
    """Refused, and not guessed."""
    with pytest.raises(ValueError, match="not the address"):
        line_host_and_port(address)
