"""Names of headers and paths, and words in them, that servers and clients of Trough share."""

from __future__ import annotations

REASON_PREFIX = b"500 Server Error: "

#: The header with the code of an answer's error (trough/errors.py).
CODE_HEADER = b"x-trough-error"

#: Marks that these rows need not be the present state: ``last-promoted`` or ``unconfirmed``
#: (trough/worker/read_rule.py).
STATE_HEADER = b"x-trough-state"

#: Sent by the scripts of the web console, which ask for a token by themselves.
CONSOLE_HEADER = b"x-trough-console"

#: Where a server that has a token to prove gets a challenge, and then a ticket.
CHALLENGE_PATH, TICKET_PATH = b"/peer/challenge", b"/peer/ticket"

#: Names the token and the address of the client whose request a server passes on.
CLIENT_HEADER = b"x-trough-client"

#: The scheme of ``Authorization`` in which a proof is sent: a token's id, challenge, proof, and
#: the client's own nonce, over which the server proves itself.
PROOF = "Trough-Proof"

#: Names the trace of a request, in the format of the W3C.
TRACE_HEADER = b"traceparent"

#: Names the worker that passed a request on; such a request is not passed on again.
FORWARDED_HEADER = b"x-trough-forwarded-by"

#: Names the holder of the write lock, beside the former, if that could not be reached.
HOLDER_AWAY_HEADER = b"x-trough-holder-away"

#: Of a partial answer of a GATHER: how many segments are missing, and which.
MISSING_HEADER, MISSING_SEGMENTS_HEADER = b"x-trough-missing", b"x-trough-missing-segments"
