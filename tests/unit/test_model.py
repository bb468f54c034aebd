"""The words of Trough: the rules for names, stated once, and where copies lie."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trough import model
from trough.errors import BadSegmentId
from trough.model import (
    MAX_NODE_NAME,
    MAX_SEGMENT_ID,
    canonical_path,
    check_node_name,
    check_segment_id,
    is_segment_id,
)

GOOD_IDS = ["300001", "__unspecified__", "ait-seed-1234", "a.b", "A", "a", "a..b", "x~y@z=1"]
GOOD_IDS += ["-", "_", "a...", "a" * MAX_SEGMENT_ID, "~", "@", "="]

BAD_IDS: list[object] = ["", "a" * (MAX_SEGMENT_ID + 1), "/", "a/b", "..", ".", ".hidden"]
BAD_IDS += ["a\x00", "a\n", "\na", "a b", " a", "a ", "a\t", "a\x7f", "a\x1b[0m", "a:b", "a,b"]
BAD_IDS += ["a%41", "a?b", "a#b", "a&b", "a+b", "a'b", 'a"b', "a*", "a\\b", "a;b", "a|b", "a$b"]
BAD_IDS += ["ä", "a\u0301", "\u0661", "\u200b", "a\udc80", "\u2028"]
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
    assert f"1 to {MAX_SEGMENT_ID} characters" in model.SEGMENT_ID_RULE
    assert f"1 to {MAX_NODE_NAME} characters" in model.NODE_NAME_RULE


def test_the_longest_names_make_a_key_of_rethinkdb() -> None:
    """Role, worker and segment together fit the 127 bytes of a primary key."""
    longest = ("x" * MAX_NODE_NAME, "x" * MAX_SEGMENT_ID)
    for key in ("trough-write:{}:{}", "trough-read:{}:{}", "{}:{}", "trough-nodes:{}:None"):
        assert len(key.format(*longest)) <= 127
    assert len(f"write:lock:{longest[1]}") <= 127


@given(st.text(max_size=70))
def test_an_id_is_a_file_name_a_url_part_and_a_word(text: str) -> None:
    """Whatever the rule lets pass can be used where ids are used, without escaping."""
    if is_segment_id(text):
        assert not set(text) & set("/\\:%?#&+, \t\r\n\0'\"*<>|;") and text.isascii()
        assert not text.startswith(".") and text.isprintable()


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
