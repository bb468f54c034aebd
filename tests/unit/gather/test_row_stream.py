"""Rows of a plain query are passed on as the JSON that their segment sent."""

from itertools import chain

import pytest
from gather_support import Cluster

from trough import errors
from trough.gather import GatherSession
from trough.sql.json_rows import JsonRows, has_end, without_end
from trough.sql.rows import array_of_rows

#: Texts that look like the place between two rows.
CRAFTY = ['",""],[', ',""],[', '""]]', "", '"', "\\", '\\",""],["', "[[", ',{"blob":""}', "é\u2028"]


def cut(rows, before=b"", after=b""):
    return without_end(array_of_rows([(*row, "") for row in rows]).encode(), before, after)


def test_the_end_of_each_row_is_cut_off():
    """Whatever the values look like."""
    rows = [(text, other, None, 1.5, b"") for text in CRAFTY for other in CRAFTY]
    for some in (rows, [(each,) for each in CRAFTY], [("",)], [("",), ("",)], [(None,)]):
        found = cut(some)
        assert [tuple(row) for row in found] == some
        assert len(found) == len(some)
    named = cut(rows, b'"seg,",', b',"seg,"')
    assert [tuple(row) for row in named] == [("seg,", *row, "seg,") for row in rows]


def test_other_texts_are_not_cut():
    """Of a server that puts blanks between values, or of rows that end with something else."""
    for text in (b'[[1, ""]]', b"[[1,null]]", b'[ [1,""]]', b"[]", b"", b'[[1,""],[2,3]]'):
        assert not has_end(text)


def session(sql, **options):
    cluster = Cluster()
    for number in range(3):
        rows = [(place, text) for place, text in enumerate(CRAFTY)]
        cluster.add(f'seg "{number}"', "CREATE TABLE t (n, x)", {"t": rows})
    return cluster, GatherSession(sql, cluster.segments, **options)


def batches(cluster, gathering):
    """All that is passed on, as it is."""
    found = []
    take = gathering.take
    gathering.take = lambda: found.extend(take()) or []
    assert cluster.answer(gathering) == []
    return found


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("columns", "as_they_are"),
    [
        ("n, x", True),
        ("_segment, n, x", True),
        ("n, x, _segment", True),
        ("_segment, n, x, _segment AS again", True),
        ("n, _segment, x", False),
        ("_segment", False),
    ],
)
def test_rows_are_passed_on_without_being_decoded(columns, as_they_are, partial):
    """Unless the segment's name lies between other columns; the rows are the same."""
    cluster, gathering = session(f"SELECT {columns} FROM t", partial=partial)
    found = batches(cluster, gathering)
    assert all(isinstance(batch, JsonRows) is as_they_are for batch in found)
    rows = sorted(map(repr, chain.from_iterable(found)))
    expected = []
    for segment in cluster.segments:
        for n, x in enumerate(CRAFTY):
            named = {"n": n, "x": x, "_segment": segment, "_segment AS again": segment}
            expected.append(repr([named[column] for column in columns.split(", ")]))
    assert rows == sorted(expected)


def test_limit_and_offset_count_rows():
    """What came together is divided where it has to be."""
    cluster, gathering = session("SELECT n FROM t LIMIT 7 OFFSET 3")
    found = batches(cluster, gathering)
    assert sum(map(len, found)) == 7
    assert {type(batch) for batch in found} == {JsonRows, list}


def test_a_segment_of_another_shape_passes_nothing_on_by_itself():
    """Its schema comes first, and it is asked again."""
    cluster, gathering = session("SELECT n, x FROM t", partial=True)
    cluster.add("other", "CREATE TABLE t (x, y)", {"t": [("a", 1), ("b", 2)]})
    gathering = GatherSession("SELECT n, x FROM t", cluster.segments)
    found = [tuple(row) for row in chain.from_iterable(batches(cluster, gathering))]
    assert found.count((None, "a")) == found.count((None, "b")) == 1
    assert len(found) == 3 * len(CRAFTY) + 2


def test_rows_that_are_no_json_end_it():
    """A broken server is named, and not its rows passed on."""
    _, gathering = session("SELECT n FROM t")
    (first,) = gathering.next_requests()
    gathering.rows(first.segments[0], b"[[nothing,")
    with pytest.raises(errors.ProtocolError, match="cannot be read"):
        gathering.next_requests()
