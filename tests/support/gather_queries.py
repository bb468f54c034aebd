"""Random queries for the search of GATHER, aimed at where SQLite reads a text in its own way.

Parentheses, signs, positions, aliases that shadow columns, quotes, keywords as names,
precedence, ``IN table``, views, WITH, correlation, parameters.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from gather_worlds import PLAIN, quoted

BINARY = (
    "+", "-", "*", "/", "%", "||", "<", "<=", ">", ">=", "=", "==", "<>", "!=", "IS", "IS NOT",
    "AND", "OR", "&", "|", "<<", ">>", "LIKE", "NOT LIKE", "GLOB", "IS NOT DISTINCT FROM",
)  # fmt: skip
FUNCTIONS = (
    "abs({})", "lower({})", "length({})", "typeof({})", "coalesce({}, {})", "nullif({}, {})",
    "max({}, {})", "min({}, {})", "substr({}, 1, 1)", "iif({}, {}, {})", "quote({})", "date({})",
    "strftime('%Y', {})", "likely({})", "ifnull({}, {})", "hex({})", "instr({}, 'x')",
    "round({}, 1)", "json_array({})", "sign({})",
)  # fmt: skip
#: TRUE is not among them: where an aggregate is sorted by, SQLite 3.53 takes IS NOT TRUE for
#: IS TRUE.
LITERALS = (
    "1", "0", "2", "-1", "'x'", "'1'", "2.5", "NULL", "x'78'", "''", "0x1", "1e0", ".5",
    '"nope"', "'now'", "+1", "(1)",
)  # fmt: skip
AGGREGATES = (
    "count(*)", "count({})", "sum({})", "total({})", "avg({})", "min({})", "max({})", "count()",
    "count(DISTINCT {})", "sum(DISTINCT {})", "group_concat(DISTINCT {})",
    "count({}) FILTER (WHERE {})", "max({}) FILTER (WHERE {})",
    "group_concat({0}, ',' ORDER BY {0})",
)  # fmt: skip
PERCENTILES = (
    "median(abs({0}))", "percentile(length({0}), 30)", "percentile_cont(abs({0}) / 2.0, 0.5)",
    "percentile_disc(length({0}), 0.9)",
)  # fmt: skip
WINDOWS = (
    "count(*)", "rank()", "dense_rank()", "row_number()", "sum({0})", "max({0})", "min({0})",
    "count({0}) FILTER (WHERE {1})", "lag({0})", "first_value({0})", "ntile(2)", "percent_rank()",
    "group_concat({0}, '-')",
)  # fmt: skip
FRAMES = (
    "", "", "", "", " ROWS 1 PRECEDING", " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW",
    " GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES",
)  # fmt: skip
CASTS = ("TEXT", "INTEGER", "REAL", "NUMERIC", "VARCHAR(3)")
ROWIDS = ("rowid", "_rowid_", "oid", "ROWID")
TABLES = ("t", "u", "w")
LIMITS = ("", "", " LIMIT 3", " LIMIT 2 OFFSET 1", " LIMIT (2)", " LIMIT -1 OFFSET 1")


@dataclass
class Names:
    """What an expression may name: pairs of a source's name, or nothing, and a column's."""

    columns: list[tuple[str, str]] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)


class Queries:
    """Makes queries over the tables of a world.

    :param tables: names of columns by table or view
    :param index: columns of the full-text index ``f``, if there is one
    """

    def __init__(
        self, rng: random.Random, tables: dict[str, list[str]], index: Sequence[str] = ()
    ) -> None:
        self.rng = rng
        self.index = list(index)
        self.tables = tables
        self.parameters: dict[str, object] = {}
        self._aliases = 0

    def maybe(self, chance: float) -> bool:
        return self.rng.random() < chance

    def pick(self, *of: str) -> str:
        return self.rng.choice(of)

    # -- names -------------------------------------------------------------------------

    def spelled(self, name: str) -> str:
        """A name in one of SQLite's ways to write it."""
        styles = [quoted(name), f"[{name}]", f"`{name}`"]
        if name in PLAIN or name in ("k", "i", "z", "p", "t", "u", "w") or name[0] == "v":
            styles += [name, name, name, name.upper()]
        return self.rng.choice(styles)

    def column(self, names: Names) -> str:
        if names.aliases and self.maybe(0.15):
            return self.spelled(self.rng.choice(names.aliases))
        if not names.columns:
            return self.pick(*LITERALS)
        source, name = self.rng.choice(names.columns)
        return f"{self.spelled(source)}.{self.spelled(name)}" if source else self.spelled(name)

    def new_alias(self, names: Names) -> str:
        if names.columns and self.maybe(0.5):
            return self.rng.choice(names.columns)[1]
        return self.pick("k", "q", "x", "select", "now", "one two")

    # -- expressions -------------------------------------------------------------------

    def expression(self, names: Names, depth: int = 2, aggregate: bool | None = False) -> str:
        """An expression.

        :param aggregate: it may call aggregates; None: window functions
        """
        text = self._expression(names, depth, aggregate)
        return f"({text})" if self.maybe(0.15) else text

    def _expression(self, names: Names, depth: int, aggregate: bool | None) -> str:
        def inner() -> str:
            return self.expression(names, depth - 1, aggregate)

        kind = self.rng.random()
        if aggregate and kind < 0.5:
            return self.aggregate(names)
        if aggregate is None and kind < 0.4:
            return self.window(names)
        if depth <= 0 or kind < 0.3:
            return self.pick(*LITERALS) if self.maybe(0.25) else self.column(names)
        if kind < 0.55:
            return f"{inner()} {self.pick(*BINARY)} {inner()}"
        if kind < 0.63:
            return (
                self.pick("- ", "+", "~", "NOT ", "- -", "+ -", "NOT NOT ", "-(", "+(").replace(
                    "(", ""
                )
                + inner()
            )
        if kind < 0.70:
            word = self.pick("BETWEEN {} AND {}", "NOT BETWEEN {} AND {}", "IS NULL", "NOTNULL",
                             "ISNULL", "NOT NULL", "COLLATE NOCASE", "COLLATE BINARY", "IS TRUE",
                             "IN ({}, {})", "NOT IN ({})", "IN ()", "COLLATE RTRIM")  # fmt: skip
            return f"{inner()} {word.format(inner(), inner())}"
        if kind < 0.78:
            return self.pick(*FUNCTIONS).format(inner(), inner(), inner())
        if kind < 0.84:
            return self.pick(
                f"CASE {inner()} WHEN {inner()} THEN {inner()} ELSE {inner()} END",
                f"CASE WHEN {inner()} THEN {inner()} END",
                f"CAST({inner()} AS {self.pick(*CASTS)})",
            )
        if kind < 0.9:
            return f"{inner()} {self.pick('IN', 'NOT IN')} {self.in_what(names, depth)}"
        if kind < 0.95 and depth > 1:
            return self.subquery(names)
        return self.parameter()

    def condition(self, names: Names) -> str:
        """Of WHERE; many ask for some texts, which a segment may lack."""
        if self.maybe(0.4):
            return self.expression(names, 2)
        if self.maybe(0.4):
            more = f" {self.pick('AND', 'AND', 'OR')} {self.expression(names, 1)}"
            return self.in_range(names) + (more if self.maybe(0.3) else "")
        column, text = (
            self.column(names),
            self.pick("'x'", "'X'", "'10'", "'zz'", "'x '", "'01'", "'1.0'", "'Y'"),
        )
        if self.maybe(0.2):
            text = f":p{len(self.parameters)}"
            self.parameters[text[1:]] = self.rng.choice(["x", "zz", "1", 1, None, b"x"])
        asked = self.pick(
            f"{column} = {text}", f"({column}) = ({text})", f"{text} == {column}",
            f"{column} IS {text}", f"{column} IN ({text}, 'nope')", f"{column} IN ({text})",
            f"{column} = {text} COLLATE NOCASE", f"NOT {column} = {text}",
        )  # fmt: skip
        more = f" {self.pick('AND', 'AND', 'OR')} {self.expression(names, 1)}"
        return asked + (more if self.maybe(0.5) else "")

    def in_range(self, names: Names) -> str:
        """Of WHERE: a column is compared with what some segments have nothing beyond."""
        column = self.column(names)
        low, high = (self.bound(), self.bound()) if self.maybe(0.7) else (self.bound(),) * 2
        return self.pick(
            f"{column} > {low}", f"{column} >= {low}", f"{low} < {column}", f"{low} >= {column}",
            f"{column} < {low}", f"({column}) <= ({low})", f"{column} = {low}",
            f"{low} == {column}", f"{column} BETWEEN {low} AND {high}",
            f"{column} IN ({low}, {high})", f"{column} IS {low}",
            f"{column} > {low} AND {column} < {high}", f"NOT {column} > {low}",
            f"+{column} > {low}", f"{column} COLLATE NOCASE < {low}", f"{column} NOT IN ({low})",
        )  # fmt: skip

    def bound(self) -> str:
        """A literal or a parameter, of any kind."""
        if self.maybe(0.25):
            name = f":p{len(self.parameters)}"
            values = [5, -2, 8.5, "8", "x", "z", None, b"x", "5.0", 2**63 - 1, float("inf"), "10"]
            self.parameters[name[1:]] = self.rng.choice(values)
            return name
        return self.pick(
            "5", "8", "-2", "0", "2.75", "-2.5", "'x'", "'z'", "'a'", "'5'", "'8.0'", "NULL",
            "x'78'", "1e3", "' 7'", "'é'", "''", "-0.0", "9223372036854775808", "'now'", "-'1'",
            "0x7", "'2001-02-03'",
        )  # fmt: skip

    def parameter(self) -> str:
        name = f"p{len(self.parameters)}"
        self.parameters[name] = self.rng.choice([1, "x", None, 2.5, "now", b"x", "1", 0])
        return f"{self.pick(':', '@', '$')}{name}"

    def aggregate(self, names: Names) -> str:
        bare = Names(names.columns)
        if self.maybe(0.06):
            return self.pick(*PERCENTILES).format(self.column(bare))
        return self.pick(*AGGREGATES).format(self.expression(bare, 1), self.expression(bare, 1))

    def window(self, names: Names) -> str:
        """A window function. Rows that its order leaves equal may come in any order."""
        bare = Names(names.columns)
        call = self.pick(*WINDOWS).format(self.expression(bare, 1), self.expression(bare, 1))
        over = f"PARTITION BY {self.expression(bare, 1)} " if self.maybe(0.5) else ""
        if self.maybe(0.8):
            columns = [self.column(bare) for _ in range(self.rng.randint(1, 3))]
            over += "ORDER BY " + ", ".join(
                column + self.pick("", " DESC", " NULLS LAST", " COLLATE NOCASE")
                for column in columns
            )
            over += self.pick(*FRAMES)
        return f"{call} OVER ({over})"

    def in_what(self, names: Names, depth: int) -> str:
        single = [name for name, columns in self.tables.items() if len(columns) == 1]
        if single and self.maybe(0.6):
            table = self.rng.choice(single)
            return self.pick(self.spelled(table), f"main.{table}", table)
        return f"({self.select(names, 1, depth - 1)})"

    def subquery(self, names: Names) -> str:
        if self.maybe(0.5):
            return f"{self.pick('EXISTS', 'NOT EXISTS')} ({self.select(names, 1, 0)})"
        table = self.rng.choice(list(self.tables))
        inner = self.source_names(table, "")
        outer = Names(inner.columns + names.columns, names.aliases)
        return (
            f"(SELECT {self.aggregate(inner)} FROM {self.spelled(table)} "
            f"WHERE {self.expression(outer, 1)})"
        )

    # -- selects -----------------------------------------------------------------------

    def source_names(self, table: str, alias: str) -> Names:
        called = alias or table
        columns = self.tables[table]
        return Names([("", name) for name in columns] + [(called, name) for name in columns])

    def source(self, depth: int) -> tuple[str, Names]:
        """A FROM clause and what it has."""
        tables = list(self.tables)
        table = self.rng.choice(tables)
        kind = self.rng.random()
        if kind < 0.6 or depth <= 0:
            alias = self.pick("", "", "", "q", "t", "u")
            text = self.spelled(table) + (f" {self.pick('', 'AS ')}{alias}" if alias else "")
            return text, self.source_names(table, alias)
        if kind < 0.75:
            items = self.rng.randint(1, 2)
            names = [f"k{place}" for place in range(items)]
            inner = self.select(Names(), items, depth - 1, names)
            alias = self.pick("", "q", "t")
            qualified = [(alias, name) for name in names] if alias else []
            return f"({inner}) {alias}", Names([("", name) for name in names] + qualified)
        other = self.rng.choice(tables)
        left, right = ("l", "r") if self.maybe(0.5) else (table, other)
        if left == right:
            left, right = "l", "r"
        names = Names(
            [(left, name) for name in self.tables[table]]
            + [(right, name) for name in self.tables[other]]
        )
        shared = [name for name in self.tables[table] if name in self.tables[other]]
        if shared and left != right and self.maybe(0.35):
            return self._common(table, other, left, right, shared)
        word = self.pick(",", "JOIN", "LEFT JOIN", "CROSS JOIN", "RIGHT JOIN", "FULL JOIN")
        on = "" if word in (",", "CROSS JOIN") else f" ON {self.expression(names, 1)}"
        text = f"{quoted(table)} {left} {word} {quoted(other)} {right}{on}"
        return (f"({text})" if self.maybe(0.15) else text), names

    def _common(
        self, table: str, other: str, left: str, right: str, shared: list[str]
    ) -> tuple[str, Names]:
        """A join with columns in common."""
        side = self.pick("", "", "LEFT ", "RIGHT ", "FULL ", "INNER ")
        natural = self.maybe(0.4)
        common = shared if natural else self.rng.sample(shared, self.rng.randint(1, len(shared)))
        using = "" if natural else f" USING ({', '.join(map(self.spelled, common))})"
        word = f"{'NATURAL ' if natural else ''}{side}JOIN"
        text = f"{quoted(table)} AS {left} {word} {quoted(other)} AS {right}{using}"
        names = Names(
            [("", name) for name in common]
            + [(left, name) for name in self.tables[table]]
            + [(right, name) for name in self.tables[other]]
        )
        return (f"({text})" if self.maybe(0.2) else text), names

    def select(self, outer: Names, items: int, depth: int, called: list[str] | None = None) -> str:
        """A SELECT inside another query."""
        text, names = self.source(depth)
        seen = Names(names.columns + (outer.columns if self.maybe(0.3) else []), outer.aliases)
        grouped = self.maybe(0.25)
        listed = [self.expression(seen, 1, grouped) for _ in range(items)]
        if called:
            listed = [f"{item} AS {name}" for item, name in zip(listed, called, strict=True)]
        where = f" WHERE {self.expression(seen, 1)}" if self.maybe(0.5) else ""
        group = f" GROUP BY {self.term(names, items)}" if grouped and self.maybe(0.6) else ""
        distinct = "DISTINCT " if self.maybe(0.1) else ""
        return f"SELECT {distinct}{', '.join(listed)} FROM {text}{where}{group}"

    def query(self) -> str:
        """A whole query."""
        self.parameters = {}
        if self.index and self.maybe(0.2):
            return self.search()
        if self.maybe(0.03):
            return self.with_rowid()
        if self.maybe(0.08):
            arms = [self.select(Names(), 2, 1) for _ in range(self.rng.randint(2, 3))]
            words = [self.pick(" UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT ") for _ in arms]
            text = "".join(f"{word}{arm}" for word, arm in zip(["", *words[1:]], arms, strict=True))
            return text + self.pick("", " ORDER BY (1), +2", " ORDER BY 2 DESC, 1 LIMIT 2")
        with_ = ""
        tables = dict(self.tables)
        if self.maybe(0.12):
            name = self.pick("t", "w", "v", "cte")
            with_ = f"WITH {name} AS ({self.select(Names(), 1, 1, ['z'])}) "
            self.tables = {**tables, name: ["z"]}
        try:
            return with_ + self.main_select()
        finally:
            self.tables = tables

    def main_select(self) -> str:
        text, names = self.source(2)
        if self.maybe(0.04):
            return self.first_of_groups()
        grouped = self.maybe(0.45)
        windows = self.maybe(0.12)
        count = self.rng.randint(1, 3)
        listed, aliases = [], []
        for _ in range(count):
            kind = None if not grouped and windows else grouped and self.maybe(0.6)
            item = self.expression(names, 2, kind)
            if self.maybe(0.4):
                aliases.append(self.new_alias(names))
                item += f" {self.pick('AS ', 'AS ', 'AS ')}{quoted(aliases[-1])}"
            listed.append(item)
        if self.maybe(0.05) and not grouped:
            listed = ["*"]
        seen = Names(names.columns, aliases)
        distinct = "DISTINCT " if self.maybe(0.12) else ""
        sql = f"SELECT {distinct}{', '.join(listed)} FROM {text}"
        if self.maybe(0.4):
            sql += f" WHERE {self.condition(seen if self.maybe(0.5) else names)}"
        if grouped and self.maybe(0.7):
            terms = [self.term(seen, count) for _ in range(self.rng.randint(1, 2))]
            sql += f" GROUP BY {', '.join(terms)}"
            if self.maybe(0.3):
                sql += f" HAVING {self.expression(seen, 1, True)}"
        if self.maybe(0.5):
            terms = [self.order_term(seen, count, grouped) for _ in range(self.rng.randint(1, 2))]
            terms += [str(place) for place in range(1, count + 1)] if listed != ["*"] else []
            sql += f" ORDER BY {', '.join(terms)}"
            sql += self.pick(
                "", "", " LIMIT 3", " LIMIT 2 OFFSET 1", " LIMIT (2)", " LIMIT -1 OFFSET 1"
            )
        return sql

    def first_of_groups(self) -> str:
        """The first rows of groups: not all rows of a segment are needed for them."""
        table = self.rng.choice(list(self.tables))
        names = self.source_names(table, "")
        order = ", ".join(map(quoted, self.rng.sample(self.tables[table], len(self.tables[table]))))
        function = self.pick("row_number", "rank", "dense_rank")
        partition = f"PARTITION BY {self.expression(names, 1)} " if self.maybe(0.7) else ""
        where = f" WHERE {self.expression(names, 1)}" if self.maybe(0.5) else ""
        inner = (
            f"SELECT *, {function}() OVER ({partition}ORDER BY {order}) AS nr "
            f"FROM {self.spelled(table)}{where}"
        )
        bound = self.pick("nr <= 2", "nr < 3", "2 >= nr", "nr BETWEEN 1 AND 2", "nr = 1", "nr > 1")
        if self.maybe(0.5):
            return f"SELECT * FROM ({inner}) AS q WHERE {bound} AND {self.expression(names, 1)}"
        least = f"min({quoted(self.tables[table][0])})"
        return f"WITH q AS ({inner}) SELECT count(*), {least} FROM q WHERE {bound}"

    def within(self) -> str:
        """A query whose rows are those of each segment, one after the other."""
        self.parameters = {}
        if self.index and self.maybe(0.2):
            return self.search_within()
        text, names = self.source(2)
        if text.strip('"').lower() in TABLES and self.maybe(0.5):
            names.columns += [("", rowid) for rowid in ROWIDS if self.maybe(0.7)]
        listed = [self.expression(names, 2) for _ in range(self.rng.randint(1, 3))]
        if self.maybe(0.1):
            listed = ["*"]
        where = f" WHERE {self.condition(names)}" if self.maybe(0.6) else ""
        return f"SELECT {', '.join(listed)} FROM {text}{where}"

    # -- full-text search and rowids -----------------------------------------------------

    def match(self) -> str:
        """A search in the index ``f``."""
        words = ("x", "y", "a", "1", "now", "x*", '"x y"', "x OR y", "a NOT x", "é", "x AND a")
        text = self.pick(*words)
        if self.maybe(0.2):
            text = f"{self.rng.choice(self.index)}: {text}"
        if self.maybe(0.3):
            name = f"p{len(self.parameters)}"
            self.parameters[name] = text
            asked = f":{name}"
        else:
            asked = f"'{text}'"
        return self.pick(f"f MATCH {asked}", f"f MATCH ({asked})")

    def search(self) -> str:
        """A query of the index ``f`` of all segments."""
        names = Names([("", name) for name in self.index] + [("f", name) for name in self.index])
        grouped = self.maybe(0.4)
        count = self.rng.randint(1, 2)
        listed = [self.expression(names, 1, grouped) for _ in range(count)]
        if not grouped and self.maybe(0.4):
            listed.append("highlight(f, 0, '[', ']')")
            count += 1
        where = self.match()
        if self.maybe(0.3):
            where += f" AND {self.expression(names, 1)}"
        sql = f"SELECT {', '.join(listed)} FROM f WHERE {where}"
        if grouped and self.maybe(0.7):
            sql += f" GROUP BY {self.expression(names, 1)}"
        elif grouped:
            return sql
        places = ", ".join(str(place) for place in range(1, count + 1))
        return sql + self.pick("", f" ORDER BY {places}", f" ORDER BY {places} LIMIT 2")

    def search_within(self) -> str:
        """A query of the index ``f`` of each segment, perhaps beside a table."""
        table = self.pick(*TABLES)
        names = Names(
            [("f", name) for name in (*self.index, "rowid")]
            + [("o", name) for name in (*self.tables[table], "rowid")]
        )
        listed = ", ".join(self.expression(names, 1) for _ in range(2))
        joined = self.pick(",", "JOIN", "LEFT JOIN")
        on = "" if joined == "," else " ON o.rowid = f.rowid"
        same = " AND o.rowid = f.rowid" if joined == "," else ""
        return f"SELECT {listed} FROM f {joined} {table} AS o{on} WHERE {self.match()}{same}"

    def with_rowid(self) -> str:
        """A query that names a rowid, which rows of many segments do not have."""
        table = self.pick(*TABLES)
        names = self.source_names(table, "")
        rowid = self.pick(*ROWIDS, f"{table}.rowid")
        return self.pick(
            f"SELECT {self.expression(names, 1)}, {rowid} FROM {table}",
            f"SELECT count({rowid}) FROM {table} WHERE {self.expression(names, 1)}",
            f"SELECT max({rowid}) FROM {table} GROUP BY {self.expression(names, 1)}",
            f"SELECT {self.expression(names, 1)} FROM {table} ORDER BY {rowid}",
        )

    def term(self, names: Names, count: int) -> str:
        place = str(self.rng.randint(1, count))
        return self.pick(
            place, f"({place})", f"+{place}", f"(({place}))", f"- -{place}", self.column(names),
            f"({self.column(names)})", f"+{self.column(names)}", self.expression(names, 1),
            f"{self.column(names)} COLLATE NOCASE", f"{place} COLLATE NOCASE",
        )  # fmt: skip

    def order_term(self, names: Names, count: int, grouped: bool) -> str:
        term = self.term(names, count)
        if grouped and self.maybe(0.3):
            term = self.aggregate(names)
        return term + self.pick("", "", " DESC", " ASC", " NULLS LAST", " DESC NULLS FIRST")
