"""SQLAlchemy, pandas and polars by the dialect trough://, against real servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pandas
import polars
import pytest
import sqlalchemy
import sqlalchemy.orm
from places import ROOT
from processes import Machine, wait_until_known

SUITE = ROOT / "tests/support/sqlalchemy_suite"

#: Seconds for the whole suite; it takes half a minute on two busy cores.
SUITE_SECONDS = 900


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with Machine(
        tmp_path_factory.mktemp("sqlalchemy"), MINIMUM_ASSIGNMENTS="1", WORKER_TTL="60"
    ) as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        wait_until_known(machine.metadata_url)
        yield machine


def url(machine, path):
    return f"trough://127.0.0.1:{machine.processes['s1'].settings['SYNC_LINE_PORT']}/{path}"


@pytest.fixture
def engine(machine):
    engine = sqlalchemy.create_engine(url(machine, "orm?create=yes"))
    yield engine
    engine.dispose()


def test_the_suite_of_sqlalchemy(machine, tmp_path):
    """All of it passes but what requirements.py and suite_plugin.py leave out, with reasons."""
    command = [sys.executable, "-m", "pytest", "-c", "setup.cfg", f"--rootdir={SUITE}"]
    command += [f"--basetemp={tmp_path / 'base'}", "--dburi", url(machine, "suite?create=yes")]
    ran = subprocess.run(
        [*command, "suite.py"],
        cwd=SUITE,
        env={**os.environ, "PYTHONPATH": str(SUITE), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS,
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    assert int(re.findall(r"(\d+) passed", ran.stdout)[-1]) > 600


def test_tables_and_objects(engine):
    """Made, written, read and reflected, with keys of the program's own."""

    class Base(sqlalchemy.orm.DeclarativeBase):
        pass

    class Page(Base):
        __tablename__ = "page"
        url: sqlalchemy.orm.Mapped[str] = sqlalchemy.orm.mapped_column(primary_key=True)
        status: sqlalchemy.orm.Mapped[int | None]

    Base.metadata.create_all(engine)
    with sqlalchemy.orm.Session(engine) as session:
        session.add_all([Page(url="a", status=200), Page(url="b", status=None)])
        session.commit()
        found = session.scalars(sqlalchemy.select(Page).order_by(Page.url)).all()
        assert [(page.url, page.status) for page in found] == [("a", 200), ("b", None)]
    columns = sqlalchemy.inspect(engine).get_columns("page")
    assert [column["name"] for column in columns] == ["url", "status"]


def test_a_rollback_warns(engine):
    """What was written stays."""
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE stays (x)")
        with pytest.warns(RuntimeWarning, match="1 write cannot be taken back"):
            connection.rollback()
        assert connection.exec_driver_sql("SELECT count(*) FROM stays").scalar() == 0


def test_pandas_and_polars_read_and_write(machine, engine):
    """By the engine; many segments, too."""
    frame = pandas.DataFrame({"n": [1, 2], "t": ["x", None], "r": [0.5, 1.5]})
    frame.to_sql("frame", engine, index=False)
    found = pandas.read_sql("SELECT * FROM frame WHERE n > ?", engine, params=(0,))
    assert found["n"].tolist() == [1, 2] and found["r"].tolist() == [0.5, 1.5]
    found = polars.read_database("SELECT n, t FROM frame", engine)
    assert found.rows() == [(1, "x"), (2, None)]
    both = sqlalchemy.create_engine(url(machine, "~^orm$"))
    assert pandas.read_sql("SELECT sum(n) AS s FROM frame", both)["s"].tolist() == [3]
    both.dispose()


def test_the_dialect_needs_no_name_that_is_new_in_sqlalchemy_2():
    """Apache Superset has 1.4, where the method that gives the driver has another name, too."""
    script = (
        "import sqlalchemy.engine.interfaces as i; del i.IsolationLevel;"
        "import trough.dbapi, trough.sqlalchemy.dialect as d;"
        "assert d.TroughDialect.dbapi() is trough.dbapi"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
