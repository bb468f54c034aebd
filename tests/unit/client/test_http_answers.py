"""What HTTP answers mean to the blocking client."""

from __future__ import annotations

from trough.client.responses import gathered


def test_a_missing_segment_may_be_called_blob():
    """Values that are BLOBs are told from what is said of a segment of that name."""
    body = (
        b'{"columns":["a","b"],"rows":[[{"blob":"AP8="},"{}"],[null,9e999]],'
        b'"missing":{"blob":{"error":"it took too long","code":"timeout"}}}'
    )
    rows, missing = gathered(body)
    assert rows == [{"a": b"\x00\xff", "b": "{}"}, {"a": None, "b": float("inf")}]
    assert missing == {"blob": {"error": "it took too long", "code": "timeout"}}
