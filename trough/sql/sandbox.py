"""What SQL may do: the rule that SQLite asks while it compiles each statement.

Everything that is not allowed is forbidden. This module lists actions, functions and pragmas one
by one. So what a later SQLite adds is refused until a developer has reviewed it. A read can read
its own segment. A write can change the rows and the schema of its own segment. Neither reaches
another file, the settings of a connection, or the transaction that Trough itself keeps. The
sandbox keeps a description of what it refused, because SQLite reports only "not authorized".

SQLite asks about views, triggers and generated columns when a statement uses them. So a segment's
own schema has no more rights than its reader.
"""

from __future__ import annotations

import enum
from collections.abc import Collection

ALLOWED, DENIED = 0, 1


class Action(enum.IntEnum):
    """What SQLite asks about, by SQLite's own numbers."""

    CREATE_INDEX = 1
    CREATE_TABLE = 2
    CREATE_TEMP_INDEX = 3
    CREATE_TEMP_TABLE = 4
    CREATE_TEMP_TRIGGER = 5
    CREATE_TEMP_VIEW = 6
    CREATE_TRIGGER = 7
    CREATE_VIEW = 8
    DELETE = 9
    DROP_INDEX = 10
    DROP_TABLE = 11
    DROP_TEMP_INDEX = 12
    DROP_TEMP_TABLE = 13
    DROP_TEMP_TRIGGER = 14
    DROP_TEMP_VIEW = 15
    DROP_TRIGGER = 16
    DROP_VIEW = 17
    INSERT = 18
    PRAGMA = 19
    READ = 20
    SELECT = 21
    TRANSACTION = 22
    UPDATE = 23
    ATTACH = 24
    DETACH = 25
    ALTER_TABLE = 26
    REINDEX = 27
    ANALYZE = 28
    CREATE_VTABLE = 29
    DROP_VTABLE = 30
    FUNCTION = 31
    SAVEPOINT = 32
    RECURSIVE = 33


class Mode(enum.IntEnum):
    """Whose statement is being compiled."""

    READ = 0
    WRITE = 1
    #: Those of Trough itself, such as the COMMIT of a write.
    OWN = 2


_READING = frozenset({Action.READ, Action.RECURSIVE})

_WRITING = _READING | {
    Action.INSERT,
    Action.UPDATE,
    Action.DELETE,
    Action.CREATE_TABLE,
    Action.CREATE_INDEX,
    Action.CREATE_VIEW,
    Action.CREATE_TRIGGER,
    Action.DROP_TABLE,
    Action.DROP_INDEX,
    Action.DROP_VIEW,
    Action.DROP_TRIGGER,
    Action.ALTER_TABLE,
    Action.REINDEX,
    Action.ANALYZE,
}


_CHANGING = frozenset({Action.INSERT, Action.UPDATE, Action.DELETE})
_VIRTUAL = frozenset({Action.CREATE_VTABLE, Action.DROP_VTABLE})

#: Modules of which a write may make virtual tables. Each keeps its content in ordinary
#: tables, by C code that trusts them: so only where SQLite's defensive mode keeps SQL from
#: writing those. Tables of other modules that a segment contains can be read.
MODULES = frozenset({"fts5", "rtree", "rtree_i32", "geopoly"})


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Functions that any SQL may call. Missing on purpose: load_extension, fts3_tokenizer,
#: optimize and rtreecheck (they reach beyond reading), sqlite_log.
FUNCTIONS = _names(
    """
    -> ->> abs acos acosh asin asinh atan atan2 atanh avg bm25 ceil ceiling changes char
    coalesce concat concat_ws cos cosh count cume_dist current_date current_time
    current_timestamp date datetime degrees dense_rank exp first_value floor format glob
    group_concat hex highlight if ifnull iif instr json json_array json_array_insert
    json_array_length json_error_position json_extract json_group_array json_group_object
    json_insert json_object json_patch json_pretty json_quote json_remove json_replace
    json_set json_type json_valid jsonb jsonb_array jsonb_array_insert jsonb_extract
    jsonb_group_array jsonb_group_object jsonb_insert jsonb_object jsonb_patch jsonb_remove
    jsonb_replace jsonb_set julianday lag last_insert_rowid last_value lead length like
    likelihood likely ln log log10 log2 lower ltrim match matchinfo max median min mod nth_value
    ntile nullif octet_length offsets percent_rank percentile percentile_cont
    percentile_disc pi pow power printf quote radians random
    randomblob rank replace round row_number rtreedepth rtreenode rtrim sign sin sinh
    snippet soundex sqlite_compileoption_get sqlite_compileoption_used sqlite_source_id
    sqlite_version sqrt strftime string_agg substr substring subtype sum tan tanh time
    timediff total total_changes trim trunc typeof unhex unicode unistr unistr_quote
    unixepoch unlikely upper zeroblob
    geopoly_area geopoly_bbox geopoly_blob geopoly_ccw geopoly_contains_point geopoly_group_bbox
    geopoly_json geopoly_overlap geopoly_regular geopoly_svg geopoly_within geopoly_xform
    regexp seedcrawledstatus buildredirectarray trough_row_json trough_column_filter
    trough_column_range
    """
)

#: Of these the ones whose value need not be the same at the next call. Time functions are
#: among them, as each may be given ``'now'``, in a row too.
MOVING = _names(
    """
    changes current_date current_time current_timestamp date datetime julianday
    last_insert_rowid random randomblob strftime time timediff total_changes unixepoch
    """
)

# What ALTER TABLE calls within; SQLite lets no other statement call them.
_ALTERING_FUNCTIONS = _names(
    """
    sqlite_rename_table sqlite_rename_column sqlite_rename_test sqlite_rename_quotefix
    sqlite_drop_column sqlite_drop_constraint sqlite_add_constraint sqlite_find_constraint
    sqlite_fail
    """
)

#: Pragmas that return something about the segment and may be given an argument.
ASKING_PRAGMAS = _names(
    """
    table_info table_xinfo table_list index_list index_info index_xinfo foreign_key_list
    foreign_key_check quick_check integrity_check
    """
)

#: Pragmas that return something, and with an argument would change it. database_list is
#: not among them: it shows paths of this machine.
TELLING_PRAGMAS = _names(
    """
    application_id auto_vacuum collation_list compile_options data_version encoding
    foreign_keys freelist_count function_list journal_mode module_list page_count
    page_size pragma_list schema_version user_version
    """
)

#: Pragmas that a write may set: numbers in the file's header that SQLite does not use.
SETTABLE_PRAGMAS = frozenset({"application_id", "user_version"})


class Sandbox:
    """The rule of one process, for all of its connections.

    A process runs one statement at a time, so the caller sets :attr:`mode` before each one.

    :param virtual_tables: whether writes may make and drop them
    :ivar mode: whose statement is compiled next
    :ivar refused: text of what the statement tried to do and must not, or None
    :ivar wanted_to_write: whether what was refused was to change rows
    :ivar selects: SELECTs that were compiled; views and subqueries count
    :ivar functions: calls of functions that were compiled
    """

    def __init__(self, virtual_tables: bool = False) -> None:
        self.mode = Mode.OWN
        self.refused: str | None = None
        self.wanted_to_write = False
        self._modules = MODULES if virtual_tables else frozenset()
        self.selects = 0
        self.functions = 0
        self.moving = 0

    def authorize(
        self,
        action: int,
        first: str | None,
        second: str | None,
        database: str | None,
        source: str | None,
    ) -> int:
        """SQLite's authorizer callback.

        :param source: the view or trigger that wants it, or None
        :return: :data:`ALLOWED` or :data:`DENIED`
        """
        mode = self.mode
        if action == 20 or mode == 2:  # READ: once for each mention of a column
            return ALLOWED
        if action == Action.SELECT:
            self.selects += 1
            return ALLOWED
        if action == Action.FUNCTION:
            self.functions += 1
            if (second or "").lower() in MOVING:
                self.moving += 1
            allowed = _function_allowed(second or "", mode)
        elif action == Action.PRAGMA:
            self.moving += 1
            allowed = _pragma_allowed((first or "").lower(), second, mode)
        elif mode == Mode.WRITE and action in _VIRTUAL:
            allowed = (second or "").lower() in self._modules and database == "main"
        elif mode == Mode.WRITE:
            allowed = action in _WRITING and _is_main(action, first, database)
        else:
            allowed = action in _READING
        if allowed:
            return ALLOWED
        if self.refused is None:
            self.refused = _in_words(action, first, second)
            self.wanted_to_write = action in _CHANGING
        return DENIED

    def forget(self) -> None:
        """Forget what was refused."""
        self.refused = None
        self.wanted_to_write = False


def _is_main(action: int, first: str | None, database: str | None) -> bool:
    if action == Action.ALTER_TABLE:  # names the database first, and the column after it
        return first == "main"
    # ALTER TABLE looks through the temporary schema too, which is always empty here.
    return database in ("main", None) or action == Action.UPDATE


def _function_allowed(name: str, mode: Mode) -> bool:
    name = name.lower()
    return name in FUNCTIONS or (mode == Mode.WRITE and name in _ALTERING_FUNCTIONS)


def _pragma_allowed(name: str, argument: str | None, mode: Mode) -> bool:
    if name in ASKING_PRAGMAS:
        return True
    if argument is None:
        return name in TELLING_PRAGMAS
    return mode == Mode.WRITE and name in SETTABLE_PRAGMAS


_SINGULAR_OBJECT = {
    Action.FUNCTION: "the function {1}",
    Action.TRANSACTION: "{0}",
    Action.SAVEPOINT: "{0} of a savepoint",
    Action.ATTACH: "ATTACH",
    Action.DETACH: "DETACH",
    Action.ALTER_TABLE: "ALTER TABLE {1}",
    Action.CREATE_VTABLE: "CREATE VIRTUAL TABLE {0} USING {1}",
    Action.DROP_VTABLE: "DROP of the virtual table {0}",
    Action.INSERT: "INSERT into {0}",
    Action.DELETE: "DELETE from {0}",
    Action.UPDATE: "UPDATE of {0}",
}


def _in_words(action: int, first: str | None, second: str | None) -> str:
    if action == Action.PRAGMA:
        value = f"={second}" if second is not None else ""
        return f"PRAGMA {(first or '').lower()}{value}"
    known: Collection[int] = Action.__members__.values()
    if action not in known:
        return f"what SQLite calls action {action}"
    words = _SINGULAR_OBJECT.get(Action(action))
    if words is None:
        words = Action(action).name.replace("_", " ") + " {0}"
    return words.format(first or "", second or "").strip()
