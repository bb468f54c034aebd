"""Small segments in files, for the tests of everything that runs SQL."""

import sqlite3
from contextlib import closing

SCHEMA = """
CREATE TABLE crawled_url(id INTEGER PRIMARY KEY, url TEXT, status_code INTEGER, size REAL);
CREATE INDEX by_status ON crawled_url(status_code);
CREATE VIEW found AS SELECT url FROM crawled_url WHERE status_code = 200;
"""


def make_segment(path, rows=200, schema=SCHEMA):
    """A segment that nobody writes, with some captures."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(schema)
        connection.executemany(
            "INSERT INTO crawled_url VALUES(?,?,?,?)",
            ((n, f"http://example.org/{n}", (200, 404, 301)[n % 3], n / 4) for n in range(rows)),
        )
    return str(path)


def content(path, query="SELECT * FROM crawled_url ORDER BY id"):
    """What plain SQLite finds in a file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def damage(path, first=1, last=None):
    """Overwrite pages of a file with what is no page."""
    with open(path, "r+b") as file:
        size = file.seek(0, 2)
        file.seek(first * 4096)
        file.write(b"\xa5" * ((last * 4096 if last else size) - first * 4096))
