"""The tables of TPC-H that its queries 19 and 21 read, with random rows, and these queries."""

from __future__ import annotations

import datetime
import random
import sqlite3
from typing import Any

SCHEMA = """
CREATE TABLE nation (n_nationkey INTEGER PRIMARY KEY, n_name TEXT, n_regionkey INTEGER);
CREATE TABLE supplier (s_suppkey INTEGER PRIMARY KEY, s_name TEXT, s_nationkey INTEGER);
CREATE TABLE part (p_partkey INTEGER PRIMARY KEY, p_brand TEXT, p_size INTEGER, p_container TEXT);
CREATE TABLE orders (o_orderkey INTEGER PRIMARY KEY, o_custkey INTEGER, o_orderstatus TEXT);
CREATE TABLE lineitem (l_orderkey INTEGER, l_partkey INTEGER, l_suppkey INTEGER,
    l_linenumber INTEGER, l_quantity INTEGER, l_extendedprice REAL, l_discount REAL,
    l_commitdate TEXT, l_receiptdate TEXT, l_shipinstruct TEXT, l_shipmode TEXT);
"""
INDEXES = """
CREATE INDEX lineitem_order ON lineitem (l_orderkey);
CREATE INDEX lineitem_part ON lineitem (l_partkey);
CREATE INDEX lineitem_supplier ON lineitem (l_suppkey);
CREATE INDEX supplier_nation ON supplier (s_nationkey);
CREATE INDEX part_brand ON part (p_brand, p_container);
"""
Q19 = """
SELECT sum(l_extendedprice * (1 - l_discount)) AS revenue FROM lineitem, part
WHERE (p_partkey = l_partkey AND p_brand = 'Brand#12'
    AND p_container IN ('SM CASE', 'SM BOX', 'SM PACK', 'SM PKG')
    AND l_quantity >= 1 AND l_quantity <= 11 AND p_size BETWEEN 1 AND 5
    AND l_shipmode IN ('AIR', 'AIR REG') AND l_shipinstruct = 'DELIVER IN PERSON')
  OR (p_partkey = l_partkey AND p_brand = 'Brand#23'
    AND p_container IN ('MED BAG', 'MED BOX', 'MED PKG', 'MED PACK')
    AND l_quantity >= 10 AND l_quantity <= 20 AND p_size BETWEEN 1 AND 10
    AND l_shipmode IN ('AIR', 'AIR REG') AND l_shipinstruct = 'DELIVER IN PERSON')
  OR (p_partkey = l_partkey AND p_brand = 'Brand#34'
    AND p_container IN ('LG CASE', 'LG BOX', 'LG PACK', 'LG PKG')
    AND l_quantity >= 20 AND l_quantity <= 30 AND p_size BETWEEN 1 AND 15
    AND l_shipmode IN ('AIR', 'AIR REG') AND l_shipinstruct = 'DELIVER IN PERSON')
"""
Q21 = """
SELECT s_name, count(*) AS numwait FROM supplier, lineitem l1, orders, nation
WHERE s_suppkey = l1.l_suppkey AND o_orderkey = l1.l_orderkey AND o_orderstatus = 'F'
  AND l1.l_receiptdate > l1.l_commitdate
  AND EXISTS (SELECT * FROM lineitem l2
    WHERE l2.l_orderkey = l1.l_orderkey AND l2.l_suppkey <> l1.l_suppkey)
  AND NOT EXISTS (SELECT * FROM lineitem l3
    WHERE l3.l_orderkey = l1.l_orderkey AND l3.l_suppkey <> l1.l_suppkey
      AND l3.l_receiptdate > l3.l_commitdate)
  AND s_nationkey = n_nationkey AND n_name = 'NATION 20'
GROUP BY s_name ORDER BY numwait DESC, s_name LIMIT 100
"""

Rows = dict[str, list[tuple[Any, ...]]]


def rows(orders: int, seed: int = 1) -> Rows:
    """Rows by table; a benchmark of scale 0.01 has 15,000 orders."""
    dice = random.Random(seed)
    parts, suppliers = orders * 2 // 15, orders // 150
    sizes, kinds = ("SM", "MED", "LG", "JUMBO", "WRAP"), ("CASE", "BOX", "BAG", "PACK", "PKG")
    made: Rows = {
        "nation": [(key, f"NATION {key}", key % 5) for key in range(25)],
        "supplier": [
            (key, f"Supplier#{key:09}", dice.randrange(25)) for key in range(1, suppliers + 1)
        ],
        "part": [
            (
                key,
                f"Brand#{dice.randint(1, 5)}{dice.randint(1, 5)}",
                dice.randint(1, 50),
                f"{dice.choice(sizes)} {dice.choice(kinds)}",
            )
            for key in range(1, parts + 1)
        ],
        "orders": [
            (key * 4, dice.randint(1, orders), dice.choice("FFOOP")) for key in range(orders)
        ],
        "lineitem": [],
    }
    for order, _, _ in made["orders"]:
        for line in range(dice.randint(1, 7)):
            made["lineitem"].append(_line(dice, order, line, parts, suppliers))
    return made


def _line(
    dice: random.Random, order: int, line: int, parts: int, suppliers: int
) -> tuple[Any, ...]:
    commit = datetime.date(1992, 1, 1) + datetime.timedelta(dice.randrange(2500))
    receipt = commit + datetime.timedelta(dice.randint(-60, 60))
    return (
        order,
        dice.randint(1, parts),
        dice.randint(1, suppliers),
        line + 1,
        dice.randint(1, 50),
        dice.randint(90_000, 10_000_000) / 100,
        dice.randint(0, 10) / 100,
        commit.isoformat(),
        receipt.isoformat(),
        dice.choice(("DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN")),
        dice.choice(("AIR", "AIR REG", "MAIL", "SHIP", "TRUCK", "RAIL", "FOB")),
    )


def fill(database: sqlite3.Connection, made: Rows, share: slice = slice(None)) -> None:
    """Make the tables, and insert a share of each one's rows."""
    database.executescript(SCHEMA)
    for table, all_rows in made.items():
        mine = all_rows[share]
        if mine:
            marks = ", ".join("?" * len(mine[0]))
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", mine)
