"""Users of a real RethinkDB, and TLS to it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import pytest_twisted
from certificates import CertificateAuthority
from rethinkdb_server import RethinkServer
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from waiting import GIVE_UP, until

from trough import errors
from trough.admin.console import FAILED, Console
from trough.admin.users import rethinkdb_users
from trough.metadata.open import open_metadata
from trough.metadata.rethinkdb.blocking import BlockingRethink
from trough.metadata.rethinkdb.store import RethinkMetadata
from trough.metadata.sqlite.store import SqliteMetadata
from trough.metadata.url import RethinkAddress, parse
from trough.model import Copy, Leader, Schema

READ = Copy("300001", "w1", "trough-read", "https://w1:6444/")


class Locked:
    """A RethinkDB server with TLS, whose admin has a password."""

    def __init__(self, directory) -> None:
        self.authority = CertificateAuthority(directory / "ca")
        files = self.authority.issue("127.0.0.1")
        assert files.certificate and files.key
        self.server = RethinkServer(
            "locked", directory, "--initial-password", "superuser",
            "--driver-tls-cert", files.certificate, "--driver-tls-key", files.key,
        )  # fmt: skip

    def address(self, user: str, password: str, ca: str | None = None) -> RethinkAddress:
        ca = self.authority.ca if ca is None else ca
        return RethinkAddress((self.server.host,), "trough", user, password, ca)

    async def users(self, new_passwords: bool = False) -> tuple[str, dict[str, str]]:
        """What `trough-admin rethinkdb-users` prints, and the passwords in it by user."""
        store = RethinkMetadata(self.address("admin", "superuser"), reactor)
        await store.open()
        output = io.StringIO()
        options = Namespace(servers="trough", clients="trough-reader", new_passwords=new_passwords)
        await rethinkdb_users(Console(store, io.StringIO(), output, reactor), options)
        await store.close()
        words = [line.split("=", 1)[1] for line in output.getvalue().splitlines() if "=" in line]
        return output.getvalue(), dict(zip(words[::2], words[1::2], strict=True))


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    locked = Locked(tmp_path_factory.mktemp("locked"))
    locked.server.start()
    yield locked
    locked.server.kill()


@pytest_twisted.ensureDeferred
async def test_servers_may_all_that_they_do_and_clients_read(locked):
    """The servers' user writes, makes missing tables and indexes; the clients' cannot write, and
    neither sees another database or a user."""
    _, passwords = await locked.users(new_passwords=True)
    assert set(passwords) == {"trough", "trough-reader"} and "admin" not in passwords
    server = RethinkMetadata(locked.address("trough", passwords["trough"]), reactor)
    await server.open()
    await server.campaign(Leader("s1", "a", "https://s1:6111/"))
    await server.publish_copies([READ])
    await server.put_schema(Schema("crawl", "CREATE TABLE t (a)"))
    await recreate_a_table(locked)
    await server.close()
    await server_again(locked, passwords["trough"])

    url = locked.address("trough-reader", passwords["trough-reader"])
    client = BlockingRethink(url)
    assert await deferToThread(client.schemas) == ["crawl", "default"]
    assert (await deferToThread(client.leader)).url == "https://s1:6111/"
    client.close()
    tool = RethinkMetadata(url, reactor, ready=False, deadline=5)
    await tool.open()
    assert await tool.schemas() == ["crawl", "default"]
    with pytest.raises(errors.BadSettings):
        await tool.put_schema(Schema("mine", "CREATE TABLE t (a)"))
    with pytest.raises(errors.BadSettings):
        await tool.make_users([], False)
    await tool.close()


async def recreate_a_table(locked: Locked) -> None:
    """Leave work for the servers' user: a table is missing."""
    from rethinkdb import RethinkDB

    r = RethinkDB()

    def drop() -> None:
        host, port = locked.server.host
        with r.connect(
            host, port, user="admin", password="superuser", ssl={"ca_certs": locked.authority.ca}
        ) as connection:
            r.db("trough").table_drop("lock").run(connection)

    await deferToThread(drop)


async def server_again(locked: Locked, password: str) -> None:
    server = RethinkMetadata(locked.address("trough", password), reactor)
    await server.open()
    assert await server.locks() == []
    await server.close()


@pytest_twisted.ensureDeferred
async def test_a_second_time_passwords_stay(locked):
    """Unless new ones are asked for."""
    await locked.users(new_passwords=True)
    said, passwords = await locked.users()
    assert passwords == {} and said.count("its password stays") == 2


@pytest_twisted.ensureDeferred
async def test_a_ca_that_does_not_fit(locked, tmp_path):
    """Twisted's and the blocking driver both name host and fault, and nothing is sent plain."""
    other = CertificateAuthority(tmp_path / "other").ca
    address = locked.address("admin", "superuser", other)
    store = open_metadata(str(address), reactor, user="admin", ca=other, patience=GIVE_UP)
    opening = Deferred.fromCoroutine(store.open())
    reason = "CA that is not known here: see RETHINKDB_TLS"
    await until(lambda: store.absence and reason in store.absence.reason, "the reason")
    await store.close()
    with pytest.raises(errors.Cancelled):
        await opening
    with pytest.raises(errors.Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        await deferToThread(BlockingRethink(address).leader)
    with pytest.raises(errors.BadSettings, match="RETHINKDB_TLS: /none"):
        open_metadata(str(address), reactor, ca="/none")


@pytest_twisted.ensureDeferred
async def test_without_tls_where_it_is_spoken(locked):
    """An error, and soon."""
    address = locked.address("admin", "superuser", "")
    store = RethinkMetadata(address, reactor, deadline=1.0)
    with pytest.raises(errors.Unavailable):
        await store.open()
    await store.close()


def test_the_url_of_tools_names_the_ca(locked):
    """As `trough-shell -u` takes it."""
    host, port = locked.server.host
    url = f"rethinkdb://admin:superuser@{host}:{port}/trough?tls_ca={locked.authority.ca}"
    address = parse(url)
    assert isinstance(address, RethinkAddress) and address.ca == locked.authority.ca
    client = BlockingRethink(address)
    assert "default" in client.schemas()
    client.close()


@pytest_twisted.ensureDeferred
async def test_a_registry_has_no_users(tmp_path):
    """The refusal says so."""
    store = SqliteMetadata(tmp_path / "registry.db", reactor)
    await store.open()
    with pytest.raises(errors.BadRequest, match="no users"):
        await store.make_users([], False)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_status_names_what_to_do_about_a_refused_user(locked):
    """A wrong password: the reason, and the section of the guide."""
    program = str(Path(sys.executable).with_name("trough-admin"))
    url = f"rethinkdb://127.0.0.1:{locked.server.port}/trough?tls_ca={locked.authority.ca}"
    secrets = {"RETHINKDB_USER": "admin", "RETHINKDB_PASSWORD": "wrong"}
    found = await deferToThread(
        subprocess.run,
        [program, "-u", url, "status"],
        env={**os.environ, **secrets},
        capture_output=True,
        text=True,
        timeout=GIVE_UP,
    )
    assert found.returncode == FAILED
    assert "refuses the user" in found.stderr
    assert found.stderr.endswith("(see RethinkDB refuses the user)\n")
