"""How much one request may hold, and what is said where it is more."""

import pytest
import pytest_twisted

from trough import errors
from trough.protocols.limits import MAX_IDS, MAX_PARAMETERS, check_json_values
from trough.protocols.line.arguments import checked_ids, parse_query_arguments
from trough.protocols.line.framing import MARK, LineRequest
from trough.protocols.line.values import decode_parameters

ensure = pytest_twisted.ensureDeferred


def query(ids, sql=b"SELECT 1"):
    """A QUERY whose segments are a literal."""
    return LineRequest("1", "QUERY", MARK + b" " + sql, (",".join(ids).encode(),))


@ensure
async def test_a_hundred_thousand_segments_are_taken():
    """Each once, in their order."""
    ids = [f"seg-{n}" for n in range(100_000)]
    arguments = parse_query_arguments(query([*ids, "seg-0"]))
    assert await checked_ids(arguments.segments) == tuple(ids)


def test_more_segments_are_refused_before_they_are_looked_at():
    """Also where they are no:ids at all."""
    for word in ("seg", "", "not an id"):
        with pytest.raises(errors.TooLarge, match="in one request"):
            parse_query_arguments(query([word] * (MAX_IDS + 2)))


@ensure
async def test_a_wrong_id_in_a_long_list_is_named():
    """Wherever it stands."""
    with pytest.raises(errors.BadSegmentId, match="no:id"):
        await checked_ids([f"seg-{n}" for n in range(5000)] + ["no:id"])


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"1," * MAX_PARAMETERS + b"1,1]",
        b"{" + b",".join(b'"k%d":1' % n for n in range(MAX_PARAMETERS + 2)) + b"}",
        b"[" * 100_000,
        b"[" + b'"",' * 100_000,
    ],
    ids=["array", "object", "nesting", "no JSON"],
)
def test_too_many_parameters_are_refused(text):
    """Before they are decoded."""
    with pytest.raises(errors.BadRequest):
        decode_parameters(text)


@pytest.mark.parametrize("value", [",:[{" * 100_000, '"\\,:' * 50_000])
def test_what_a_string_holds_does_not_count(value):
    """A long text is one value."""
    assert decode_parameters(
        ('["' + value.replace("\\", "\\\\").replace('"', '\\"') + '"]').encode()
    ) == [value]


def test_as_many_parameters_as_sqlite_takes():
    """And not one less."""
    text = b"[" + b",".join([b"1"] * MAX_PARAMETERS) + b"]"
    assert len(decode_parameters(text)) == MAX_PARAMETERS


def test_deep_nesting_is_refused():
    """With an error of ours."""
    with pytest.raises(errors.BadRequest):
        decode_parameters(b"[" * 900 + b"]" * 900)
    check_json_values(b"[" * 900, 1000, "it")
