"""Rows as Arrow tables: which types columns get, whatever the chunks are."""

from __future__ import annotations

import json

import pytest

from trough import errors
from trough.drivers import arrow
from trough.drivers.arrow import TableBuilder


@pytest.fixture(params=[1, 2, 1000])
def chunk(request, monkeypatch):
    """How many rows make an array."""
    monkeypatch.setattr(arrow, "_CHUNK", request.param)


def column(values):
    columns = TableBuilder(["x"])
    for value in values:
        columns.json(json.dumps([[value]]).encode())
    return columns.table().column("x")


@pytest.mark.parametrize(
    ("values", "type_name"),
    [
        ([1, None, -(2**63)], "int64"),
        ([None, 1, 0.5, 2], "double"),
        ([0.5, None, 7], "double"),
        ([None, "a", ""], "string"),
        ([None, None], "null"),
        ([], "null"),
    ],
)
def test_a_column_has_the_type_of_its_values(chunk, values, type_name):
    """Integers among reals are reals; NULL fits everywhere."""
    found = column(values)
    assert (str(found.type), found.to_pylist()) == (type_name, values)


def test_blobs_are_binary(chunk):
    """As the protocol writes them."""
    found = column([{"blob": "AP8="}, None])
    assert (str(found.type), found.to_pylist()) == ("binary", [b"\0\xff", None])


@pytest.mark.parametrize(
    "values",
    [
        [1, "a"],
        ["a", 1.5],
        ["a", {"blob": "AP8="}],
        [{"blob": "AP8="}, "a"],
        [{"blob": "AP8="}, 1],
        [0.5, 2**53 + 1],
        [2**53 + 1, 0.5],
    ],
)
def test_several_types_are_refused(chunk, values):
    """Nothing is rounded or turned into text behind the reader's back."""
    with pytest.raises(errors.BadRequest, match="column x holds values of several types"):
        column(values)


def test_columns_of_one_name_are_told_apart():
    """A table has no two of a name."""
    columns = TableBuilder(["x", "x"])
    columns.rows([[1, 2]])
    assert len(set(columns.table().schema.names)) == 2
