"""A real HDFS for the tests: one NameNode and one DataNode, on loopback.

They are plain Java processes on free ports, in a directory of their own, which can be
killed, frozen and started again. The fixture ``hdfs`` starts them once for all tests;
whoever stops one starts it again. The jars are fetched by ``tests/support/fetch_hadoop.py``; where
they or Java are missing, tests skip and say so, except with ``CI=true``: then they fail.

Java 17 needs one flag: WebHDFS's JAXB defines classes by way of ``java.lang``.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import fetch_hadoop
import pytest
from processes import free_ports

#: Seconds. A safety net: a start takes about three.
START_LIMIT = 120.0

_JAVA = [
    "java",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "-Xms32m",
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # starts faster, and never runs long
    "-XX:-UsePerfData",
]
_NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
_DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"
_ADMIN = "org.apache.hadoop.hdfs.tools.DFSAdmin"

_LOG4J = """\
log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %p %c: %m%n
"""


class PortTaken(Exception):
    """A port that was free has been taken by somebody else."""


class HdfsServers:
    """A NameNode and a DataNode.

    :param host: the address that they listen on
    :param before: what comes before each command, to run it in a network namespace
    :ivar port: of the NameNode's HTTP and WebHDFS
    :ivar user: who may do everything: whoever started it
    """

    user = "trough"

    def __init__(
        self, directory: Path, host: str = "127.0.0.1", before: tuple[str, ...] = ()
    ) -> None:
        self.directory = directory
        self.host = host
        self._before = before
        self.port, self._rpc, self._data, self._data_http, self._data_ipc = free_ports(5)
        self._configuration = directory / "conf"
        self._configure()
        self.namenode = _Process("namenode", self._command(_NAMENODE), directory)
        self.datanode = _Process("datanode", self._command(_DATANODE), directory)

    def url(self, path: str) -> str:
        """The canonical storage at an absolute path in this HDFS."""
        return f"webhdfs://{self.host}:{self.port}{path}?user={self.user}"

    def start(self) -> None:
        """Format and start both, and wait until files can be written."""
        with (self.directory / "format.log").open("wb") as log:
            subprocess.run(
                [*self._command(_NAMENODE), "-format", "-force"],
                stdout=log,
                stderr=log,
                check=True,
            )
        self.namenode.start()
        self.datanode.start()
        self.wait()

    def safe_mode(self, on: bool) -> None:
        """Have the NameNode take no changes, or take them again."""
        done = subprocess.run(
            [*self._command(_ADMIN), "-safemode", "enter" if on else "leave"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert f"Safe mode is {'ON' if on else 'OFF'}" in done.stdout, done

    def stop(self) -> None:
        """End both."""
        self.datanode.kill()
        self.namenode.kill()

    def wait(self) -> None:
        """Wait until the NameNode is out of safe mode and the DataNode serves."""
        self.namenode.wait_for(self._namenode_is_ready)
        self.datanode.wait_for(self._datanode_is_ready)
        self.namenode.wait_for(self._datanode_is_known)

    def _namenode_is_ready(self) -> bool:
        bean = _jmx(self.host, self.port, "Hadoop:service=NameNode,name=NameNodeInfo")
        return bool(bean) and not bean["Safemode"]

    def _datanode_is_ready(self) -> bool:
        bean = _jmx(self.host, self._data_http, "Hadoop:service=DataNode,name=DataNodeInfo")
        actors = json.loads(bean.get("BPServiceActorInfo") or "[]")
        return any(actor["ActorState"] == "RUNNING" for actor in actors)

    def _datanode_is_known(self) -> bool:
        bean = _jmx(self.host, self.port, "Hadoop:service=NameNode,name=NameNodeInfo")
        nodes = json.loads(bean.get("LiveNodes") or "{}").values()
        # A NameNode that was started again knows the node before it knows its blocks.
        return bool(nodes) and sum(node["numBlocks"] for node in nodes) >= bean["TotalBlocks"]

    def _command(self, main: str) -> list[str]:
        classpath = f"{self._configuration}:{fetch_hadoop.jars()}/*"
        return [*self._before, *_JAVA, f"-DHADOOP_USER_NAME={self.user}", "-cp", classpath, main]

    def _configure(self) -> None:
        # Both look for the pages of their web interface, which are in no jar.
        for name in ("hdfs", "datanode"):
            (self._configuration / "webapps" / name).mkdir(parents=True)
        (self._configuration / "log4j.properties").write_text(_LOG4J)
        write_xml(
            self._configuration / "core-site.xml",
            {
                "fs.defaultFS": f"hdfs://{self.host}:{self._rpc}",
                "hadoop.tmp.dir": self.directory / "tmp",
            },
        )
        write_xml(
            self._configuration / "hdfs-site.xml",
            {
                "dfs.namenode.rpc-address": f"{self.host}:{self._rpc}",
                "dfs.namenode.http-address": f"{self.host}:{self.port}",
                "dfs.namenode.name.dir": self.directory / "name",
                "dfs.namenode.safemode.extension": 0,
                "dfs.namenode.datanode.registration.ip-hostname-check": "false",
                "dfs.permissions.superusergroup": self.user,
                "dfs.datanode.address": f"{self.host}:{self._data}",
                "dfs.datanode.http.address": f"{self.host}:{self._data_http}",
                "dfs.datanode.ipc.address": f"{self.host}:{self._data_ipc}",
                "dfs.datanode.hostname": self.host,
                "dfs.datanode.data.dir": self.directory / "data",
                "dfs.replication": 1,
                # Small, so that small directories are listed in pages.
                "dfs.ls.limit": 20,
                # A DataNode that was started again is back at once.
                "dfs.heartbeat.interval": 1,
                "dfs.namenode.heartbeat.recheck-interval": 1000,
                "dfs.client.retry.policy.enabled": "false",
            },
        )


class _Process:
    """One Java process, known by its pid."""

    def __init__(self, name: str, command: list[str], directory: Path) -> None:
        self.name = name
        self._command = command
        self._log = directory / f"{name}.log"
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; :meth:`HdfsServers.wait` waits until it serves."""
        assert self._running is None, f"the {self.name} runs"
        with self._log.open("ab") as log:
            self._running = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it at once, as a power cut does. Idempotent."""
        running, self._running = self._running, None
        if running is not None:
            running.kill()
            running.wait()

    def freeze(self) -> None:
        """Have it answer nothing, and keep its connections."""
        assert self._running is not None
        self._running.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        assert self._running is not None
        self._running.send_signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        """Whether it was started and not killed since; it may be frozen."""
        return self._running is not None

    def wait_for(self, ready: Callable[[], bool]) -> None:
        """Ask until `ready`; fails when the process ends instead."""
        assert self._running is not None, f"the {self.name} does not run"
        limit = time.monotonic() + START_LIMIT
        while not ready():
            log = self._log.read_text(errors="replace")
            if self._running.poll() is not None:
                if "BindException" in log or "Port in use" in log:
                    raise PortTaken(self.name)
                raise RuntimeError(f"the {self.name} ended:\n{log[-4000:]}")
            if time.monotonic() > limit:
                raise RuntimeError(f"the {self.name} is not ready:\n{log[-4000:]}")
            time.sleep(0.05)  # between two questions


def _jmx(host: str, port: int, name: str) -> dict[str, Any]:
    """A bean of a Hadoop server, empty while it does not answer."""
    # Not through a proxy that the environment may name.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/jmx?qry={name}", timeout=10) as answer:
            beans = json.load(answer)["beans"]
    except OSError:
        return {}
    return beans[0] if beans else {}


AnyHdfs = TypeVar("AnyHdfs", bound=HdfsServers)


def write_xml(path: Path, properties: dict[str, object]) -> None:
    """Write a file of Hadoop's settings."""
    rows = "".join(
        f"<property><name>{name}</name><value>{value}</value></property>\n"
        for name, value in properties.items()
    )
    path.write_text(f"<configuration>\n{rows}</configuration>\n")


def started(make: Callable[[Path], AnyHdfs]) -> AnyHdfs:
    """An HDFS that serves; the caller stops it.

    :param make: makes one in a directory
    """
    for _ in range(3):
        directory = Path(tempfile.mkdtemp(prefix="trough-hdfs-"))
        servers = make(directory)
        try:
            servers.start()
        except BaseException as error:
            servers.stop()
            shutil.rmtree(directory, ignore_errors=True)
            if not isinstance(error, PortTaken):
                raise
        else:
            return servers
    raise RuntimeError("no five ports stayed free for long enough to start HDFS")


def may_run() -> None:
    """Skip the test where there is no HDFS, or fail it where there has to be one."""
    reason = fetch_hadoop.why_not()
    if reason and fetch_hadoop.must_have_it():
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def hdfs() -> Iterator[HdfsServers]:
    """An HDFS that serves, one for all tests; whoever stops a part starts it again."""
    may_run()
    servers = started(HdfsServers)
    yield servers
    servers.stop()
    shutil.rmtree(servers.directory, ignore_errors=True)
