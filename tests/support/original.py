"""A database and files as the original Trough left them, for tests of upgrades.

``tests/cluster/original`` holds a dump that its servers wrote, and what each segment held.
"""

from __future__ import annotations

import json
import sqlite3
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from places import ROOT
from rethinkdb import RethinkDB
from storages import Hand

from trough.model import canonical_path

r = RethinkDB()

DIRECTORY = ROOT / "tests" / "cluster" / "original"

#: What each segment held: its tables, and their numbers of rows.
TRUTH: dict[str, dict[str, int]] = json.loads((DIRECTORY / "truth.json").read_text())


def restore(connection: Any, database: str) -> None:
    """Make the database, as ``rethinkdb-restore`` does, an hour after the original stopped."""
    r.db_create(database).run(connection)
    with tarfile.open(DIRECTORY / "dump.tar.gz") as dump:
        texts = {Path(each.name).name: dump.extractfile(each) for each in dump if each.isfile()}
        documents = {name: json.load(file) for name, file in texts.items() if file}
    latest = max(_times(documents))
    for name, rows in documents.items():
        table, _, kind = name.partition(".")
        if kind != "json":
            continue
        r.db(database).table_create(table).run(connection)
        place = r.db(database).table(table)
        for index in documents[f"{table}.info"]["indexes"]:
            place.index_create(index["index"]).run(connection)
        place.index_wait().run(connection)
        aged = [_aged(row, latest - time.time() + 3600) for row in rows]
        assert not place.insert(aged).run(connection)["errors"]


def _times(value: Any) -> list[float]:
    if isinstance(value, dict):
        own = [value["epoch_time"]] if "epoch_time" in value else []
        return own + [time for each in value.values() for time in _times(each)]
    return [time for each in value for time in _times(each)] if isinstance(value, list) else []


def _aged(value: Any, seconds: float) -> Any:
    if isinstance(value, dict) and "epoch_time" in value:
        return r.epoch_time(value["epoch_time"] - seconds)
    if isinstance(value, dict):
        return {key: _aged(each, seconds) for key, each in value.items()}
    return value


def put_files(hand: Hand, directory: Path) -> None:
    """Put each segment's file where the original promoted it to."""
    path = directory / "made.sqlite"
    for segment, tables in TRUTH.items():
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as database:
            database.execute("VACUUM")  # a file even where there is no table
            for table, rows in tables.items():
                database.execute(f"CREATE TABLE {table} (n INTEGER)")
                database.executemany(
                    f"INSERT INTO {table} VALUES (?)", [(number,) for number in range(rows)]
                )
            database.commit()
        hand.put(canonical_path(segment), path.read_bytes())
