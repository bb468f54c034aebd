"""Named queries of a person, in one YAML file.

A named query may have parameters, ``?1`` ``?2``. They are bound, and never pasted into the text.
Every change writes the whole file to a new file beside it, and then renames that.
"""

from __future__ import annotations

import re
from pathlib import Path

from trough import errors
from trough.errors import BadSettings
from trough.sql.tokens import TokenKind, scan

_NAME = re.compile(r"[\w.\-]{1,64}")
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_INTEGERS = range(-(2**63), 2**63)
_REAL = re.compile(r"-?(0|[1-9][0-9]*)?\.?[0-9]+([eE][+-]?[0-9]+)?")


class NamedQueries:
    """The file of named queries."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> dict[str, str]:
        """Every query by its name, sorted.

        :raises trough.errors.BadSettings: the file is not what this class writes
        """
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise BadSettings(f"{self.path}: {error.strerror}") from error
        import yaml

        try:
            queries = yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise BadSettings(f"{self.path}: not YAML: {error}") from error
        if not isinstance(queries, dict):
            raise BadSettings(f"{self.path}: not a list of names and queries")
        return {str(name): str(queries[name]) for name in sorted(queries, key=str)}

    def get(self, name: str) -> str:
        """One query.

        :raises trough.errors.NotFound: no query has this name
        """
        queries = self.all()
        if name not in queries:
            known = ", ".join(queries) or "none is kept yet"
            raise errors.NotFound(f"no query is named {name}", f"kept: {known}; \\fs keeps one")
        return queries[name]

    def save(self, name: str, sql: str) -> None:
        """Store a query. It replaces one of the same name."""
        if not _NAME.fullmatch(name):
            raise errors.BadRequest(f"not a name for a query: {name}", "letters, digits, _ - .")
        self._write({**self.all(), name: sql})

    def delete(self, name: str) -> None:
        """Delete a query.

        :raises trough.errors.NotFound: no query has this name
        """
        self.get(name)
        queries = self.all()
        del queries[name]
        self._write(queries)

    def _write(self, queries: dict[str, str]) -> None:
        import yaml

        text = yaml.safe_dump(queries, allow_unicode=True, default_style="|")
        beside = self.path.with_name(f".{self.path.name}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(text)
            beside.replace(self.path)
        except OSError as error:
            raise errors.Unavailable(f"{self.path}: {error.strerror}") from error


def parameters(sql: str) -> list[str]:
    """The parameters of a query, in the order in which SQLite binds values to them.

    ``?`` takes the number after the last one. So does a name at its first use
    (https://www.sqlite.org/lang_expr.html#parameters).
    """
    found: dict[int, str] = {}
    for token in scan(sql):
        if token.kind is not TokenKind.PARAMETER or token.text in found.values():
            continue
        number = token.text[1:] if token.text[0] == "?" else ""
        index = int(number) if number else max(found, default=0) + 1
        found[index] = token.text if token.text != "?" else f"?{index}"
    return [found.get(index, f"?{index}") for index in range(1, max(found, default=0) + 1)]


def parameter(word: str) -> int | float | str | None:
    """A word as a value to bind: a number if it looks like one, NULL, or a text."""
    if word.upper() == "NULL":
        return None
    if _INTEGER.fullmatch(word) and int(word) in _INTEGERS:
        return int(word)
    # A number with a leading zero is a name made of digits.
    return float(word) if _REAL.fullmatch(word) and not re.match(r"-?0[0-9]", word) else word
