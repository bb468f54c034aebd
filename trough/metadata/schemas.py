"""The named schemas, as every server offers them to its clients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from trough import errors
from trough.metadata import Metadata
from trough.model import DEFAULT_SCHEMA, Schema

NAME_RULE = "a schema's name is 1 to 100 printable characters without blanks and slashes"


class Schemas:
    """Reads and changes schemas in the metadata store.

    :param check: tries a schema's SQL on an empty database, off the reactor's thread;
        its Deferred fails with :class:`trough.errors.BadSchema`
    """

    def __init__(self, metadata: Metadata, check: Callable[[str], Deferred[None]]) -> None:
        self._metadata = metadata
        self._check = check

    async def names(self) -> list[str]:
        """All names, sorted."""
        return await self._metadata.schemas()

    async def get(self, name: str) -> Schema:
        """One schema.

        :raises trough.errors.NoSuchSchema: no schema has this name
        """
        return await self._metadata.schema(name)

    async def put(self, name: str, sql: Any) -> bool:
        """Add or replace a schema; whether it is new.

        :raises trough.errors.BadSchema: the name breaks the rule, or SQLite refuses the SQL
        """
        if not (0 < len(name) <= 100 and name.isprintable()) or set(name) & set("/ "):
            raise errors.BadSchema(f"not a schema's name: {name!a:.80}", NAME_RULE)
        if not isinstance(sql, str):
            raise errors.BadSchema(f"the SQL of schema {name} is not a text")
        if name == DEFAULT_SCHEMA.id and sql.strip():
            raise errors.BadSchema(
                f"the schema {name} is always empty", "register yours under another name"
            )
        await self._check(sql)
        return await self._metadata.put_schema(Schema(name, sql))
