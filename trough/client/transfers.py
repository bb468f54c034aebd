"""How far the promotion of a segment is, as the worker reports it that carries it out."""

from __future__ import annotations

import json
from collections.abc import Mapping

from trough import errors, model
from trough.client.http import Connections, NoAnswer, NotSent
from trough.metadata.blocking import BlockingMetadata

#: Seconds of silence that are borne. The number is a help, and nobody waits for it.
ANSWER_SECONDS = 5.0


class Unknown(Exception):
    """No worker tells, now or ever: it is away, of the original system, or refuses."""


def published(
    metadata: BlockingMetadata,
    connections: Connections,
    authorization: Mapping[str, str],
    segment: str,
) -> tuple[int, int]:
    """Bytes of a segment that are published, and all; zeros while no transfer is under way.

    :raises Unknown: nobody tells
    """
    url = f"{_manager_of(metadata, segment)}status"
    try:
        answer = connections.request("GET", url, None, authorization, timeout=ANSWER_SECONDS)
        if answer.status != 200:
            raise Unknown
        row = json.loads(answer.body)["transfers"].get(segment, {})
        return int(row.get("bytes", 0)), int(row.get("of", 0))
    except (NotSent, NoAnswer, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Unknown from error


def _manager_of(metadata: BlockingMetadata, segment: str) -> str:
    try:
        copies = metadata.copies_of([segment]).get(segment, ())
        node = next((copy.node for copy in copies if copy.role == model.WRITE), None)
        for worker in metadata.workers():
            if worker.node == node and worker.manager_url:
                return f"{worker.manager_url.rstrip('/')}/"
    except errors.TroughError as error:
        raise Unknown from error
    raise Unknown
