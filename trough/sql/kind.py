"""Whether a statement reads or writes, as far as a client has to know.

The worker has the last word, for it lets nothing write that came as a query. A client
only has to choose which of the two to ask for. It refuses to parse.
"""

from __future__ import annotations

from trough.sql.tokens import TokenKind, scan, significant

#: Verbs of statements that go to every connected segment.
READS = ("SELECT", "WITH", "VALUES", "EXPLAIN", "PRAGMA")

#: Verbs of statements that change one segment.
WRITES = (
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "CREATE",
    "DROP",
    "ALTER",
    "ANALYZE",
    "REINDEX",
    "VACUUM",
    "BEGIN",
    "COMMIT",
    "END",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "ATTACH",
    "DETACH",
)

#: Verbs that destroy what there is, so that no typing error is taken for one of them.
DESTROYING = frozenset({"DELETE", "UPDATE", "REPLACE", "DROP", "ALTER"})

_AFTER_WITH = frozenset({"SELECT", "VALUES", "INSERT", "UPDATE", "DELETE", "REPLACE"})


def reads(sql: str) -> bool:
    """Whether `sql`, one statement, is a query."""
    verb = _verb(sql)
    if verb == "PRAGMA":
        return not any(token.text == "=" for token in significant(sql))
    if verb != "WITH":
        return verb in READS
    depth = 0
    for token in significant(sql)[1:]:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.kind is TokenKind.WORD and token.text.upper() in _AFTER_WITH:
            return token.text.upper() in ("SELECT", "VALUES")
    return True


def writes(sql: str) -> bool:
    """Whether `sql`, one statement, is SQL that changes something."""
    verb = _verb(sql)
    return verb in WRITES or (verb in READS and not reads(sql))


def is_select(sql: str) -> bool:
    """Whether `sql`, one statement, is a query that can stand in another one."""
    return _verb(sql) in ("SELECT", "VALUES", "WITH") and reads(sql)


def returns(sql: str) -> bool:
    """Whether `sql`, which writes, would have rows of RETURNING."""
    # Most have not, and some are megabytes.
    return "RETURNING" in sql.upper() and any(
        token.kind is TokenKind.WORD and token.text.upper() == "RETURNING" for token in scan(sql)
    )


def _verb(sql: str) -> str:
    """The first word, without a look at the rest, which may be megabytes."""
    for token in scan(sql):
        if token.kind not in (TokenKind.BLANK, TokenKind.COMMENT):
            return token.text.upper()
    return ""
