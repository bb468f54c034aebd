"""The named schemas, as every server offers them to its clients."""

from __future__ import annotations

from typing import Any

from trough import errors
from trough.executors.pool.task_pool import TaskPool
from trough.metadata import Metadata
from trough.model import DEFAULT_SCHEMA, Schema
from trough.sql.sqlite import SCHEMA_SECONDS, check_schema, schema_runs_too_long

NAME_RULE = "a schema's name is 1 to 100 printable characters without slashes"


class Schemas:
    """Reads and changes schemas in the metadata store.

    :param tasks: where a schema's SQL is tried on an empty database
    """

    def __init__(self, metadata: Metadata, tasks: TaskPool) -> None:
        self._metadata = metadata
        self._tasks = tasks

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
        if not (0 < len(name) <= 100 and name.isprintable()) or "/" in name:
            raise errors.BadSchema(f"not a schema's name: {name!a:.80}", NAME_RULE)
        if not isinstance(sql, str):
            raise errors.BadSchema(f"the SQL of schema {name} is not a text")
        if name == DEFAULT_SCHEMA.id and sql.strip():
            raise errors.BadSchema(
                f"the schema {name} is always empty", "register yours under another name"
            )
        await self.check(sql)
        return await self._metadata.put_schema(Schema(name, sql))

    async def check(self, sql: str) -> None:
        """Try a schema's SQL on an empty database.

        :raises trough.errors.BadSchema: SQLite refuses it, or it runs too long
        """
        try:
            await self._tasks.run(SCHEMA_SECONDS, check_schema, sql)
        except errors.DeadlineExceeded as late:
            raise schema_runs_too_long() from late
