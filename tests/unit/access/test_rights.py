"""Rights, limits and grants."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trough import errors
from trough.access.rights import (
    ANYBODY,
    EVERY_RIGHT,
    MAX_GLOBS,
    PEER,
    READ,
    RIGHTS,
    WRITE,
    Grant,
    SegmentLimit,
    names_of,
    rights_named,
)

_TEXT = st.text("ab*", max_size=8)


@given(st.lists(_TEXT.filter(bool), min_size=1, max_size=4), st.text("ab", max_size=10))
def test_a_star_is_any_text(globs: list[str], segment: str) -> None:
    """Globs mean what they mean for files, as long as they have nothing but stars."""
    expected = any(fnmatchcase(segment, glob) for glob in globs)
    assert (segment in SegmentLimit(globs)) == expected


@pytest.mark.parametrize("segment", ["a", "A[b]", "?", "a.b", "é", "a" * 116])
def test_nothing_else_is_special(segment: str) -> None:
    """An id is matched letter by letter, and case matters."""
    assert segment in SegmentLimit([segment])
    assert segment.swapcase() + "x" not in SegmentLimit([segment])


@pytest.mark.parametrize("globs", [[], [""], ["a" * 257], ["a"] * (MAX_GLOBS + 1)])
def test_limits_of_a_limit(globs: list[str]) -> None:
    """What cannot be meant, or would be much work, is refused."""
    with pytest.raises(errors.BadRequest):
        SegmentLimit(globs)


def test_rights_have_names() -> None:
    """Names become bits and names again; a name that is none is refused."""
    assert names_of(rights_named(["write", "read"])) == ["read", "write"]
    assert rights_named(RIGHTS) == EVERY_RIGHT
    for names in ([], ["reed"]):
        with pytest.raises(errors.BadRequest, match="rights are: read, write"):
            rights_named(names)


def test_a_grant_refuses_what_it_does_not_give() -> None:
    """The refusal names the token, the right that is missing and those that are there."""
    grant = Grant("crawler", READ)
    grant.check(READ | PEER)
    with pytest.raises(
        errors.Forbidden, match=r"crawler lacks the right write or peer.*it has: read"
    ):
        grant.check(WRITE | PEER)
    grant.rights = 0
    with pytest.raises(errors.Unauthorized, match="crawler was removed"):
        grant.check(READ)
    ANYBODY.check(WRITE)


def test_a_limited_grant_names_what_it_is_not_for() -> None:
    """Ten names at most of those that the client gave, and none that it did not give."""
    grant = Grant("crawler", READ, SegmentLimit(["ait-*", "x"]))
    grant.check_segments(["ait-1", "x", "ait-"])
    grant.check_segments(["ait-1"], found=True)
    with pytest.raises(errors.Forbidden, match=r"not for segment y .*limited to ait-\*, x"):
        grant.check_segment("y")
    with pytest.raises(errors.Forbidden, match="0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 5 more"):
        grant.check_segments([str(number) for number in range(15)])
    with pytest.raises(errors.Forbidden) as refused:
        grant.check_segments(["ait-1", "hidden"], found=True)
    assert "hidden" not in str(refused.value)
    Grant("all", READ).check_segments(["anything"])
