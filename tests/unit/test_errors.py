"""The tree of errors: each is told by one word and one status, and found again by it."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from trough import errors
from trough.errors import BY_CODE, Moved, TroughError, from_code


def whole_tree(root: type[TroughError] = TroughError) -> list[type[TroughError]]:
    """All errors that errors.py defines; others may subclass them elsewhere."""
    below = [cls for child in root.__subclasses__() for cls in whole_tree(child)]
    return [root, *(cls for cls in below if cls.__module__ == errors.__name__)]


TREE = whole_tree()


def make(cls: type[TroughError], message: str = "what was wrong") -> TroughError:
    return from_code(cls.code, message)


def test_every_error_of_the_module_is_in_the_tree() -> None:
    """No exception stands beside the tree."""
    defined = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    }
    assert defined == set(TREE)


def test_every_code_is_unique() -> None:
    """A code of the wire means one error, and each error has one of its own."""
    assert [code for code, count in Counter(cls.code for cls in TREE).items() if count > 1] == []
    assert {cls.code: cls for cls in TREE} == BY_CODE


@pytest.mark.parametrize("cls", TREE)
def test_codes_and_statuses_can_be_sent(cls: type[TroughError]) -> None:
    """A code is a word of the line protocol, and a status one of an HTTP error."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.code)
    assert 400 <= cls.status < 600


@pytest.mark.parametrize("cls", TREE)
def test_an_error_is_found_again_by_its_code(cls: type[TroughError]) -> None:
    """What a peer told by code and sentence is the same error here."""
    error = make(cls)
    assert type(error) is cls
    assert error.message == "what was wrong"


@pytest.mark.parametrize("cls", TREE)
def test_the_callers_mistakes_are_told_from_passing_states(cls: type[TroughError]) -> None:
    """Whoever retries on 503 and not on 400 does right for every error."""
    if issubclass(cls, errors.BadRequest):
        assert 400 <= cls.status < 500 and cls.status not in (404, 409)
    elif issubclass(cls, errors.Unavailable):
        assert cls.status == 503
    elif issubclass(cls, errors.NotFound):
        assert cls.status == 404
    elif issubclass(cls, errors.Conflict | errors.UnusableFile):
        assert cls.status == 409
    else:
        assert cls.status == 500


@pytest.mark.parametrize("cls", TREE)
def test_each_error_says_in_a_sentence_what_it_is(cls: type[TroughError]) -> None:
    """The docstring of an error is there for whoever gets it."""
    assert cls.__doc__ and cls.__doc__.strip()[0].isupper() and "." in cls.__doc__


@pytest.mark.parametrize("cls", [cls for cls in TREE if not issubclass(cls, Moved)])
def test_hints_are_shown(cls: type[TroughError]) -> None:
    """A hint stands behind the message, in parentheses, and only where there is one."""
    error = cls("300001: no such thing", "make one")
    assert str(error) == "300001: no such thing (make one)"
    assert (error.message, error.hint) == ("300001: no such thing", "make one")
    assert str(cls("300001: no such thing")) == "300001: no such thing"


def test_an_unknown_code_is_still_an_error() -> None:
    """A code of a later version becomes the plain error, with the peer's sentence."""
    error = from_code("out-of-cheese", "redo from start")
    assert type(error) is TroughError
    assert str(error) == "redo from start"


def test_moved_carries_where_to() -> None:
    """The sentence behind ``moved`` names worker and address, for a client to follow."""
    error = from_code("moved", "w07 10.0.0.7:6440")
    assert isinstance(error, Moved)
    assert (error.node, error.line) == ("w07", "10.0.0.7:6440")


def test_all_are_caught_as_one() -> None:
    """Whoever only wants to know that Trough refused catches the root."""
    for cls in TREE:
        with pytest.raises(TroughError):
            raise make(cls)
