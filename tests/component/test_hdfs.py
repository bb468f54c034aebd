"""What only HDFS as canonical storage can meet, on a real one: servers that go away,
listings in pages, quotas, permissions, and streams that break."""

import functools
import subprocess
import sys
import textwrap
import time
import uuid

import hdfs as hdfs_package
import pytest
import pytest_twisted
import requests
from storages import HASTE, SETTLED, HdfsHand
from twisted.internet import defer, reactor
from twisted.internet.threads import deferToThread
from waiting import until

from trough import errors
from trough.storage.hdfs.backend import HdfsBackend
from trough.storage.hdfs.webhdfs import HdfsRetryPolicy, NotThere, WebHdfs
from trough.storage.open import open_storage
from trough.util import atomic_files
from trough.util.threads import Cancellation


@pytest.fixture
def hand(hdfs):
    return HdfsHand(hdfs, f"/{uuid.uuid4().hex}")


@pytest.fixture
def storage(hand):
    opened = open_storage(hand.url, reactor, patience=HASTE)
    pytest_twisted.blockon(opened.open())
    yield opened
    pytest_twisted.blockon(opened.close())


@pytest.fixture
def web(hdfs):
    """The calls below the storage: blocking."""
    url = f"http://127.0.0.1:{hdfs.port}"
    return WebHdfs(
        url,
        lambda session, timeout: hdfs_package.InsecureClient(
            url, user=hdfs.user, session=session, timeout=timeout
        ),
        HASTE,
    )


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source"
    path.write_bytes(b"content")
    return path


# -- what the promises rest on -------------------------------------------------


def test_rename_replaces_and_can_be_repeated(web, hand):
    """A rename over an existing file succeeds; asked again, as after a lost answer, it
    sees by the file's identity that it was carried out; for another file it fails."""
    hand.put("a", b"old")
    hand.put("b", b"new")
    source, target = f"{hand.root}/b", f"{hand.root}/a"
    identity = web.status(Cancellation(), source).identity
    for _ in range(2):
        web.replace(Cancellation(), source, target, identity)
    assert hand.names() == ["a"]
    assert hand.read("a") == b"new"
    with pytest.raises(NotThere):
        web.replace(Cancellation(), source, target, identity + 1)


def test_the_namenodes_clock_is_known(web, hand):
    """After one answer the NameNode's clock is known to a second."""
    assert web.status(Cancellation(), "/") is not None
    hand.put("now", b"x")
    assert abs(web.now() - web.status(Cancellation(), f"{hand.root}/now").modified / 1000) < 10


def test_listings_come_in_pages(web, hand):
    """A directory is listed in pages of what the server gives at once, each entry once."""
    names = [f"{number:03d}.sqlite" for number in range(45)]
    for name in names:
        hand.client._mkdirs(f"{hand.root}/{name}")
    pages = list(web.entries(Cancellation(), hand.root))
    assert [len(page) for page in pages] == [20, 20, 5]
    assert [status.name for page in pages for status in page] == names


def test_a_server_without_pages(web, hand):
    """Where the server does not know listings in pages, a plain one is asked for."""
    for number in range(25):
        hand.client._mkdirs(f"{hand.root}/{number}")
    web._batches = False
    (page,) = web.entries(Cancellation(), hand.root)
    assert len(page) == 25


def test_many_directories_are_looked_at_in_few_requests(web, hand, monkeypatch):
    """To learn which of 30 directories changed takes a listing of their parent, and not a
    request for each."""
    for number in range(30):
        hand.put(f"{number}/a{number}.sqlite", b"x")
    hand.settle()
    backend = HdfsBackend(web, hand.root)
    since = backend.look(Cancellation(), None, False).listing
    requests = []
    request = hdfs_package.Client._request
    monkeypatch.setattr(
        hdfs_package.Client,
        "_request",
        lambda client, method, url, **more: (
            requests.append(more["params"]["op"]) or request(client, method, url, **more)
        ),
    )
    again = backend.look(Cancellation(), since, False)
    assert (again.looked_into, len(again.present), again.gone) == (0, 0, ())
    assert sorted(requests) == ["GETFILESTATUS"] * 2 + ["LISTSTATUS_BATCH"] * 2


def test_a_file_that_is_written_under_its_final_name(web, hand):
    """A program that writes a segment in place, slowly, moves its directory's time only at
    first; a look afterwards finds the whole file all the same."""
    backend, looks = HdfsBackend(web, hand.root), []

    def content():
        yield b"half"
        # The DataNode creates the file when it gets to it.
        while web.status(Cancellation(), f"{hand.root}/300/300001.sqlite") is None:
            pass
        hand.set_modified("300/300001.sqlite", time.time() - 600)
        hand.set_modified("300", SETTLED)
        looks.append(backend.look(Cancellation(), None, False))
        yield b" and half"

    hand.client.makedirs(f"{hand.root}/300")
    hand.client.write(f"{hand.root}/300/300001.sqlite", content())
    assert hand.client.status(f"{hand.root}/300")["modificationTime"] == SETTLED * 1000
    looks.append(backend.look(Cancellation(), looks[0].listing, False))
    assert [[copy.size for copy in look.present] for look in looks] == [[0], [13]]


# -- servers that go away ------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_root_that_was_moved_is_not_made_anew(storage, hand):
    """Opened again, as sync servers do now and then, a storage whose root is gone stays
    unavailable: an empty directory in its place would tell that all segments are gone."""
    hand.client.rename(hand.root, f"{hand.root}-moved")
    for call in (storage.open, functools.partial(storage.changes, None)):
        with pytest.raises(errors.Unavailable, match="was it moved"):
            await call()


@pytest_twisted.ensureDeferred
async def test_without_a_namenode(hdfs, storage, hand, source, tmp_path):
    """With the NameNode gone each call is unavailable, within its patience; when it is
    back, everything works, and nothing was told as gone."""
    copy = await storage.publish(source, "300001")
    listing = (await storage.changes(None)).listing
    hdfs.namenode.kill()
    try:
        for call in (
            functools.partial(storage.changes, listing),
            functools.partial(storage.find, "300001"),
            functools.partial(storage.fetch, copy, tmp_path / "x"),
            functools.partial(storage.publish, source, "300001"),
            functools.partial(storage.delete, copy),
        ):
            with pytest.raises(errors.Unavailable, match=f"127.0.0.1:{hdfs.port}"):
                await call()
    finally:
        hdfs.namenode.start()
        await deferToThread(hdfs.wait)
    assert not (tmp_path / "x").exists()
    assert (await storage.changes(listing)).gone == ()
    # A DataNode's first call to a NameNode that was started again fails: retried.
    again = await storage.publish(source, "300001")
    assert again.modified > copy.modified
    assert await storage.fetch(copy, tmp_path / "x") == again


@pytest_twisted.ensureDeferred
async def test_safe_mode(hdfs, hand, source, tmp_path):
    """Reads go on; a publication is refused at once, with what to wait for."""
    patience = HdfsRetryPolicy(pause=3600.0, longest_pause=3600.0)
    storage = open_storage(hand.url, reactor, patience=patience)
    await storage.open()
    copy = await storage.publish(source, "300001")
    await deferToThread(hdfs.safe_mode, True)
    try:
        with pytest.raises(errors.Unavailable, match="leaves safe mode"):
            await storage.publish(source, "300001")
        await storage.probe(copy)
        assert await storage.fetch(copy, tmp_path / "x") == copy
    finally:
        await deferToThread(hdfs.safe_mode, False)
    await storage.close()


@pytest_twisted.ensureDeferred
async def test_without_a_datanode(hdfs, storage, hand, source, tmp_path):
    """With the DataNode gone a publication is unavailable and leaves the former copy; so is
    a fetch; looking goes on; when it is back, both work."""
    copy = await storage.publish(source, "300001")
    hdfs.datanode.kill()
    try:
        with pytest.raises(errors.Unavailable):
            await storage.publish(source, "300001")
        with pytest.raises(errors.Unavailable):
            await storage.fetch(copy, tmp_path / "x")
        assert (await storage.find("300001")).version == copy.version
        assert hand.names() == ["300/300001.sqlite"]
    finally:
        hdfs.datanode.start()
        await deferToThread(hdfs.wait)
    assert not (tmp_path / "x").exists()
    assert await storage.fetch(copy, tmp_path / "x") == copy
    assert (await storage.publish(source, "300001")).modified > copy.modified


@pytest_twisted.ensureDeferred
async def test_a_datanode_that_stands_still(hdfs, storage, hand, source, tmp_path):
    """The NameNode goes on to name it. Transfers do not wait for as long as a large file may
    take, and nobody waits twice. When it goes on, so do they."""
    copy = await storage.publish(source, "300001")
    hdfs.datanode.freeze()
    try:
        for _ in range(2):
            with pytest.raises(errors.Unavailable, match="is silent"):
                await storage.publish(source, "300001")
            with pytest.raises(errors.Unavailable, match="is silent"):
                await storage.fetch(copy, tmp_path / "x")
        assert (await storage.find("300001")).version == copy.version
    finally:
        hdfs.datanode.thaw()

    async def published():
        try:
            return await storage.publish(source, "300001")
        except errors.Unavailable:
            return None

    again = await until(published, "the DataNode")
    assert again.modified > copy.modified
    assert (await storage.fetch(again, tmp_path / "x")).version == again.version


@pytest_twisted.ensureDeferred
async def test_a_namenode_that_does_not_answer(hdfs, hand):
    """A NameNode that takes connections and answers nothing is unavailable in time: only one
    that refuses, or breaks off, is asked again after a pause."""
    patience = HdfsRetryPolicy(answer=0.3, attempts=2, pause=3600.0, longest_pause=3600.0)
    storage = open_storage(hand.url, reactor, patience=patience)
    hdfs.namenode.freeze()
    try:
        with pytest.raises(errors.Unavailable, match="timed out"):
            await storage.open()
    finally:
        hdfs.namenode.thaw()
    await storage.close()


@pytest_twisted.ensureDeferred
async def test_finding_one_file_waits_for_no_silent_namenode(hdfs, hand):
    """Somebody waits for that answer, however patient other calls are."""
    storage = open_storage(hand.url, reactor, patience=HdfsRetryPolicy(answer=3600))
    await storage.open()
    hdfs.namenode.freeze()
    try:
        with pytest.raises(errors.Unavailable, match="is silent"):
            await storage.find("300001")
    finally:
        hdfs.namenode.thaw()
    await storage.close()


@pytest_twisted.ensureDeferred
async def test_closing_does_not_wait_for_a_server(hdfs, hand, source):
    """Calls that wait for a silent server for an hour end when the storage is closed."""
    patient = open_storage(
        hand.url, reactor, patience=HdfsRetryPolicy(connect=3600, answer=3600, transfer=3600)
    )
    await patient.open()
    copy = await patient.publish(source, "300001")
    hdfs.namenode.freeze()
    try:
        calls = [
            patient.find("300001"),
            patient.changes(None),
            patient.publish(source, "300001"),
            patient.fetch(copy, source.with_name("x")),
        ]
        await patient.close()
        for call in calls:
            with pytest.raises((errors.Cancelled, defer.CancelledError)):
                await call
    finally:
        hdfs.namenode.thaw()


@pytest_twisted.ensureDeferred
async def test_nobody_listens():
    """A port on which nobody listens is unavailable, with the address in the message."""
    storage = open_storage("webhdfs://127.0.0.1:1/x", reactor, patience=HASTE)
    with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1: "):
        await storage.open()
    await storage.close()


class Permission:
    """That ends after some looks at it."""

    def __init__(self, looks):
        self._looks = looks

    def __call__(self):
        self._looks -= 1
        if self._looks < 0:
            raise errors.Unavailable("not permitted any more")


@pytest.fixture
def renames(monkeypatch):
    """The renames that the package's clients were asked for, whose connections all break;
    `carried_out` tells whether that is before or after NameNode heard of them."""
    rename = hdfs_package.Client._rename

    class Renames(list):
        carried_out = False

    asked = Renames()

    def broken(client, *args, **options):
        asked.append(args)
        if asked.carried_out:
            rename(client, *args, **options)
        raise requests.ConnectionError("the connection broke")

    monkeypatch.setattr(hdfs_package.Client, "_rename", broken)
    return asked


def test_a_rename_is_not_repeated_for_longer_than_it_is_permitted(web, hand, renames):
    """It is tried again for minutes, and the permission is over in seconds: by then, somebody
    else may have published."""
    hand.put("b", b"new")
    with pytest.raises(errors.Unavailable, match="not permitted"):
        web.replace(Cancellation(), f"{hand.root}/b", f"{hand.root}/a", 0, Permission(1))
    assert len(renames) == 1 and hand.names() == ["b"]


def test_a_rename_whose_answer_was_lost_needs_no_second_permission(web, hand, renames):
    """Carried out before its connection broke, it is seen to be done."""
    hand.put("b", b"new")
    source, target = f"{hand.root}/b", f"{hand.root}/a"
    identity = web.status(Cancellation(), source).identity
    renames.carried_out = True
    web.replace(Cancellation(), source, target, identity, Permission(1))
    assert len(renames) == 1 and hand.names() == ["a"]


class BreaksOff:
    """Takes what is told of a transfer, and has the DataNode die at the beginning.

    :ivar done: bytes, each time
    """

    def __init__(self, hdfs):
        self._hdfs = hdfs
        self.done = []

    def __call__(self, done):
        if not self.done:
            self._hdfs.datanode.kill()
            self._hdfs.datanode.start()
        self.done.append(done)


@pytest.fixture
def patient(hand):
    """The storage, opened by somebody who tries again for half a minute."""
    patience = HdfsRetryPolicy(attempts=60, pause=0.5, longest_pause=0.5)
    opened = open_storage(hand.url, reactor, patience=patience)
    pytest_twisted.blockon(opened.open())
    yield opened
    pytest_twisted.blockon(opened.close())


@pytest_twisted.ensureDeferred
async def test_a_broken_download_goes_on(hdfs, storage, patient, source, tmp_path):
    """When the DataNode dies in the middle of a download, the download goes on where it
    left off once the DataNode is back, and the file is whole."""
    content = b"".join(number.to_bytes(8, "big") for number in range(3 << 20))
    source.write_bytes(content)
    copy = await storage.publish(source, "300001")
    told = BreaksOff(hdfs)
    assert await patient.fetch(copy, tmp_path / "x", told) == copy
    await deferToThread(hdfs.wait)
    assert (tmp_path / "x").read_bytes() == content
    assert told.done == sorted(set(told.done))  # nothing came twice


@pytest_twisted.ensureDeferred
async def test_a_broken_upload_is_begun_anew(hdfs, patient, hand, source):
    """When the DataNode dies in the middle of an upload, the upload is made again from its
    beginning, and only one file is there in the end."""
    content = bytes(range(256)) * (1 << 16)
    source.write_bytes(content)
    told = BreaksOff(hdfs)
    copy = await patient.publish(source, "300001", progress=told)
    await deferToThread(hdfs.wait)
    assert told.done.count(atomic_files.CHUNK) == 2
    assert copy.size == len(content)
    assert hand.read("300/300001.sqlite") == content
    assert hand.names() == ["300/300001.sqlite"]


@pytest_twisted.ensureDeferred
async def test_a_file_replaced_while_it_is_fetched(storage, hand, source, tmp_path):
    """A fetch during which the file is replaced gives one whole version, and says which."""
    source.write_bytes(b"o" * (8 << 20))
    copy = await storage.publish(source, "300001")
    told = []

    def replace(done):
        if not told:
            hand.put("300/.new", b"n" * (4 << 20))
            hand.client._rename(
                f"{hand.root}/300/.new",
                destination=f"{hand.root}/300/300001.sqlite",
                renameoptions="overwrite",
            )
        told.append(done)

    got = await storage.fetch(copy, tmp_path / "x", replace)
    assert (tmp_path / "x").read_bytes() == b"n" * (4 << 20)
    assert got.version == (await storage.find("300001")).version


@pytest_twisted.ensureDeferred
async def test_a_file_that_is_replaced_again_and_again(storage, hand, source, tmp_path):
    """A fetch that never gets one whole version gives up, the destination untouched."""
    copy = await storage.publish(source, "300001")
    with pytest.raises(errors.Unavailable, match="again and again"):
        await storage.fetch(copy, tmp_path / "x", lambda done: hand.put(copy.path, b"other"))
    assert not (tmp_path / "x").exists()


# -- refusals ------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_without_permission(hdfs, storage, hand, source):
    """A user who may not write there is told so, naming the user, and nothing is left."""
    url = hand.url.replace(f"user={hdfs.user}", "user=mallory")
    stranger = open_storage(url, reactor, patience=HASTE)
    await stranger.open()
    with pytest.raises(errors.Unavailable, match=r"mallory.*let the user") as refused:
        await stranger.publish(source, "300001")
    assert "AccessControlException" in str(refused.value)
    await stranger.close()
    assert hand.names() == []


@pytest_twisted.ensureDeferred
async def test_without_room(storage, hand, source):
    """A quota that is used up is unavailable, not full on our side; the former copy is
    whole and nothing is left beside it."""
    await storage.publish(source, "300001")
    hand.client._request(
        "PUT",
        f"{hand.client.url}/webhdfs/v1{hand.root}",
        params={"op": "SETQUOTA", "namespacequota": 100, "storagespacequota": 1 << 20},
    ).raise_for_status()
    source.write_bytes(bytes(4 << 20))
    with pytest.raises(errors.Unavailable) as refused:
        await storage.publish(source, "300001")
    assert not isinstance(refused.value, errors.DiskFull)
    assert "uota" in str(refused.value)
    assert hand.names() == ["300/300001.sqlite"]
    assert hand.read("300/300001.sqlite") == b"content"


@pytest_twisted.ensureDeferred
async def test_a_file_where_a_directory_is_needed(storage, hand, source):
    """A file in the way of a directory is unavailable and said so."""
    hand.put("300", b"a file")
    with pytest.raises(errors.Unavailable):
        await storage.publish(source, "300001")
    assert hand.names() == ["300"]


# -- memory --------------------------------------------------------------------


def test_memory_does_not_grow_with_the_file(hand, tmp_path):
    """A process that moves 96 MB up and down needs no more than 40 MB for it."""
    script = """
        import resource, sys
        from pathlib import Path
        from twisted.internet import defer, reactor, task
        from trough.storage.open import open_storage

        async def main(url, directory):
            storage = open_storage(url, reactor)
            await storage.open()
            source = Path(directory) / "big"
            with source.open("wb") as file:
                file.truncate(96 << 20)
            await storage.publish(Path(__file__), "small")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            copy = await storage.publish(source, "300001")
            await storage.fetch(copy, source.with_name("copy"))
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert source.with_name("copy").stat().st_size == 96 << 20
            await storage.close()
            print((after - before) // 1024)

        task.react(lambda reactor: defer.ensureDeferred(main(*sys.argv[1:])))
    """
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, str(program), hand.url, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 40
