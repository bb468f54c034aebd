"""Every key of the settings: its kind, its default, and what it means.

One frozen dataclass; a key of the settings file is the name of its field in capital
letters. The sentences below are those of ``etc/trough.yml``, and a test holds the two
together. Nothing in here reads a file: see :mod:`trough.settings`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from trough.settings.kinds import (
    AbsolutePath,
    Address,
    Flag,
    Hosts,
    Integer,
    NodeName,
    OneOf,
    Origins,
    PathTemplate,
    Pattern,
    PatternText,
    PublishedHost,
    Rate,
    Seconds,
    SettingKind,
    Size,
    Url,
)
from trough.settings.rules import COLD, COPIES, MOST_COPIES, Rule, first_answer
from trough.tls import TlsFiles

# Not 0: what a process publishes is the port that its settings name.
_PORT = Integer(1, 65535)
_PROCESSES = Integer(1, 1024)
_WRITE_COPIES = Integer(1, 8)


def _key(kind: SettingKind, default: object, meaning: str, secret: bool = False) -> Any:
    """A field of :class:`Settings`.

    :param default: as a file would write it; None where it follows from other keys,
        or where nothing is what holds without the key
    :param secret: neither shown in an error nor in ``repr``
    """
    details = {"kind": kind, "default": default, "meaning": meaning, "secret": secret}
    return field(repr=not secret, metadata=details)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one process, checked and with every default filled in."""

    # -- who and where this process is --
    hostname: str = _key(
        NodeName(), None, "Name of this worker or sync server, unlike that of any other."
    )
    bind_address: str = _key(Address(), "127.0.0.1", "IP address to listen on.")
    external_ip: str = _key(
        PublishedHost(),
        None,
        "Host name or address under which others reach this process.",
    )
    local_data: str = _key(
        AbsolutePath(), "/var/lib/trough", "Directory for the local copies of a worker."
    )

    snapshot_directory: str | None = _key(
        AbsolutePath(), None, "Directory on another disk for states that are being promoted."
    )

    # -- where everything is written down, and where segments are kept --
    metadata_url: str = _key(
        Url(("sqlite:///path", "rethinkdb://host[:port],host[:port]/database")),
        None,
        "Where it is written down which worker holds what.",
    )
    rethinkdb_hosts: tuple[str, ...] | None = _key(
        Hosts(), None, "Servers of RethinkDB; another way to write METADATA_URL."
    )
    rethinkdb_database: str = _key(
        Pattern("letters, digits, _ and -", r"[A-Za-z0-9_\-]{1,64}"),
        "trough_configuration",
        "Database for RETHINKDB_HOSTS.",
    )
    rethinkdb_user: str = _key(PatternText("a text"), "admin", "User of RethinkDB.")
    rethinkdb_password: str | None = _key(
        Pattern("a text without blanks"), None, "Password of RETHINKDB_USER.", secret=True
    )
    rethinkdb_tls: str | None = _key(
        AbsolutePath(),
        None,
        "PEM file with the certificate of the CA that signed those of RethinkDB's servers.",
    )
    storage_url: str = _key(
        Url(
            ("file:///path", "webhdfs://namenode[:port]/path", "swebhdfs://namenode[:port]/path"),
            options=("user", "auth"),
        ),
        None,
        "Where canonical copies are kept.",
    )
    hdfs_host: str | None = _key(
        Pattern("a host name", r"[A-Za-z0-9_.\-]{1,253}"),
        None,
        "Name node of HDFS; HDFS_HOST, HDFS_PORT and HDFS_PATH are another way to write "
        "STORAGE_URL.",
    )
    hdfs_port: int = _key(_PORT, 9870, "Port of WebHDFS on HDFS_HOST.")
    hdfs_path: str | None = _key(AbsolutePath(), None, "Directory in HDFS.")
    hdfs_user: str | None = _key(
        Pattern("a user's name"), None, "User of HDFS; without it, the user that runs the process."
    )
    hdfs_proxy: str | None = _key(
        Pattern("http://host:port", r"https?://[A-Za-z0-9_.\-\[\]:]{1,253}/?"),
        None,
        "HTTP proxy through which HDFS is reached, http://host:port.",
    )
    hdfs_tls: str | None = _key(
        AbsolutePath(),
        None,
        "PEM file with the certificate of the CA that signed those of HDFS's servers.",
    )

    group_access: str = _key(
        OneOf({name: name for name in ("none", "read", "write")}),
        "none",
        "What the group of canonical storage in a directory, and of an embedded registry, may "
        "do with their files: none, read or write.",
    )

    # -- ports --
    read_port: int = _key(_PORT, 6444, "Port of a worker for reads over HTTP.")
    write_port: int = _key(_PORT, 6222, "Port of a worker for writes over HTTP.")
    sync_local_port: int = _key(_PORT, 6112, "Port of a worker's manager over HTTP.")
    line_port: int = _key(_PORT, 6440, "Port of a worker for the line protocol.")
    sync_server_port: int = _key(_PORT, 6111, "Port of a sync server over HTTP.")
    sync_line_port: int = _key(_PORT, 6110, "Port of a sync server for the line protocol.")
    connections_per_address: int = _key(
        Integer(0, 1_000_000),
        4000,
        "Connections that one address may have over HTTP, and to a line port; 0: no limit.",
    )
    http_hosts: tuple[str, ...] | None = _key(
        Hosts(),
        None,
        "Further names under which browsers may ask this server over HTTP.",
    )
    http_origins: tuple[str, ...] | None = _key(
        Origins(),
        None,
        "Origins of web pages that may read by GET, such as https://notebook.example.org.",
    )
    auth_token: str | None = _key(
        Pattern("8 to 256 printable ASCII characters, no blank", r"[!-~]{8,256}"),
        None,
        "Secret that every client and every other process has to show.",
        secret=True,
    )

    tokens_file: str | None = _key(
        AbsolutePath(), None, "File with tokens that have rights, for trough-admin token."
    )
    peer_token: str | None = _key(
        Pattern("a token that trough-admin token made", r"trough_[0-9a-f]{16}_[A-Za-z0-9_\-]{43}"),
        None,
        "Token that servers prove to each other; without it, AUTH_TOKEN.",
        secret=True,
    )

    audit_log: str | None = _key(
        AbsolutePath(), None, "File in which it is noted who changed what, one JSON object a line."
    )
    audit_sql: bool = _key(Flag(), False, "Whether AUDIT_LOG has the SQL of writes and schemas.")

    # -- TLS --
    tls_cert: str | None = _key(
        AbsolutePath(),
        None,
        "PEM file with the certificate of this process, and after it the intermediate ones.",
    )
    tls_key: str | None = _key(
        AbsolutePath(), None, "PEM file with the private key of TLS_CERT, without a passphrase."
    )
    tls_ca: str | None = _key(
        AbsolutePath(),
        None,
        "PEM file with the certificate of the CA that signed those of Trough's servers.",
    )
    tls_peer_ca: str | None = _key(
        AbsolutePath(),
        None,
        "PEM file with the certificate of a CA that signs for the processes of this cluster alone.",
    )
    insecure: bool = _key(
        Flag(),
        False,
        "Whether the network is private: this process may listen off the loopback without TLS "
        "or without AUTH_TOKEN, and ask servers that have no TLS.",
    )

    # -- timing --
    election_cycle: float = _key(
        Seconds(0.1), 5, "Seconds between two renewals of the leadership; it lasts three of them."
    )
    worker_ttl: float = _key(
        Seconds(0.2), 30, "Seconds after its last heartbeat that a worker counts as dead."
    )
    heartbeat_interval: float = _key(
        Seconds(0.05), 5, "Seconds between two heartbeats of a worker."
    )
    copy_ttl: float = _key(
        Seconds(1), 86400, "Seconds that the row of a copy is good for while its worker lives."
    )
    sync_loop_timing: float = _key(
        Seconds(0.1),
        120,
        "Seconds between two full rounds of a worker, which find what no notice told of.",
    )
    listing_interval: float = _key(
        Seconds(0.05),
        None,
        "Seconds between two looks of the leader for changed directories in canonical storage.",
    )
    full_listing_interval: float = _key(
        Seconds(0.05), 21600, "Seconds between two looks into every directory."
    )
    write_lock_idle: float = _key(
        Seconds(0),
        3600,
        "Seconds without a write after which a promoted segment's write lock is given up; "
        "0: never.",
    )
    promote_after: float = _key(
        Seconds(0),
        900,
        "Seconds after which a worker promotes writes that no client has promoted; 0: never.",
    )
    write_copies: int = _key(
        _WRITE_COPIES,
        None,
        "Workers that have an acknowledged write on disk, the writer included.",
    )
    replication_timeout: float = _key(
        Seconds(0.1),
        2,
        "Seconds without progress after which a write no longer waits for a worker's copy.",
    )
    write_without_copies: str = _key(
        OneOf({"refuse": "refuse", "allow": "allow"}),
        "refuse",
        "What becomes of writes while neither other copies nor the metadata store answer.",
    )
    holder_wait: float = _key(
        Seconds(0),
        None,
        "Seconds that an order waits for a write lock's holder that is being restarted.",
    )
    message_seconds: float = _key(
        Seconds(0.1),
        60,
        "Seconds that a client of the line protocol may take between the parts of one message.",
    )
    shutdown_seconds: float = _key(
        Seconds(0), 10, "Seconds that requests under way have to finish when a process stops."
    )

    # -- which worker keeps what --
    minimum_assignments: int = _key(
        Integer(1, MOST_COPIES, "; rules for segments go into COPIES, as data"),
        2,
        "Copies of a segment where no rule of COPIES says otherwise.",
    )
    maximum_assignments: int = _key(
        Integer(1, MOST_COPIES), None, "Most copies that any segment has: the number of hash rings."
    )
    copies: tuple[Rule[int], ...] = _key(
        COPIES, [], "Rules for segments that have another number of copies."
    )
    move_grace: float = _key(
        Seconds(0),
        300,
        "Seconds that a dead worker's segments wait for its return before they move.",
    )
    moves_per_second: float = _key(
        Rate(0.01), 100, "Copies that move to another worker, at most, a second."
    )
    storage_in_bytes: int | None = _key(
        Size(1), None, "Bytes that a worker offers for local copies."
    )
    copy_thread_pool_size: int = _key(
        Integer(1, 256), 2, "Copies that a worker fetches or promotes at the same time."
    )

    # -- the cold tier --
    cold_segments: tuple[Rule[bool], ...] = _key(
        COLD, [], "Rules for segments that are cold: read from canonical storage, never written."
    )
    run_as_cold_storage_node: bool = _key(
        Flag(), False, "Whether this worker answers for cold segments, and for no others."
    )
    cold_storage_path: str | None = _key(
        PathTemplate({"prefix": False, "segment_id": True}),
        None,
        "Where a cold segment's file is mounted on a cold worker.",
    )
    cold_cache_bytes: int = _key(
        Size(0), "10 GB", "Bytes for fetched cold segments on a worker without such a mount."
    )

    # -- how SQL runs --
    executors: int = _key(_PROCESSES, None, "Processes that run reads.")
    write_executors: int = _key(_PROCESSES, 2, "Processes that run writes.")
    max_executors: int = _key(
        _PROCESSES, None, "Processes for reads, at most, while several run long ones."
    )
    max_write_executors: int = _key(
        _PROCESSES, None, "Processes for writes, at most, while several run long ones."
    )
    executor_memory: int = _key(
        Size(16 * 2**20),
        "1 GiB",
        "Bytes that SQLite may use in one such process.",
    )
    gather_memory: int = _key(
        Size(16 * 2**20),
        "256 MiB",
        "Bytes that SQLite may use for one GATHER, in a process of its own.",
    )
    kept_handles: int = _key(
        Integer(0, 1_000_000), 6000, "Segments that one such process keeps open, each some 70 kB."
    )
    result_cache: int = _key(
        Size(0), "64 MiB", "Bytes of answers to GATHERs that a process keeps; 0 keeps none."
    )

    # -- what a request may have --
    query_seconds: float = _key(
        Seconds(0.01), 600, "Seconds that a request may take where it does not say."
    )
    max_query_seconds: float = _key(
        Seconds(0.01), 3600, "Seconds, at most, that a request may say."
    )
    slow_query_seconds: float = _key(
        Seconds(0), 0, "Reads that take so many seconds are logged with SQLite's plan; 0: none."
    )
    write_seconds: float = _key(
        Seconds(0.01), 60, "Seconds that a write may run where it does not say."
    )
    max_rows: int = _key(
        Integer(0, 2**53), 0, "Rows that one segment may answer to one request; 0: no limit."
    )
    max_write_body: int = _key(Size(1024), "64 MiB", "Bytes of SQL in one write, at most.")
    max_write_growth: int = _key(
        Size(0), "256 MiB", "Bytes that one write may add to its segment; 0: no limit."
    )
    max_segment_size: int = _key(
        Size(0), 0, "Bytes that a segment may have to be written to; 0: no limit."
    )
    max_sql_length: int = _key(Size(1024), "4 MiB", "Bytes of SQL in one read, at most.")
    # What the protocol promises, so that a client may send that much before the greeting.
    max_line: int = _key(
        Size(8192),
        "64 KiB",
        "Bytes in one message of the line protocol less its literals, at most.",
    )
    max_literal: int = _key(
        Size(1024), "64 MiB", "Bytes in the literals of one message of the line protocol, at most."
    )
    max_unsent: int = _key(
        Size(1 << 20), "64 MiB", "Bytes of answers that wait for clients that read slowly, at most."
    )

    # -- what is told --
    log_level: str = _key(
        OneOf(
            {name: name for name in ("debug", "info", "warn", "error", "critical")}
            | {"warning": "warn"}
        ),
        "info",
        "Least level of what is logged.",
    )
    log_format: str = _key(
        OneOf({name: name for name in ("text", "json")}),
        "text",
        "How the log is written: text for people, or json, one object a line, for programs.",
    )

    def copies_for(self, segment: str) -> int:
        """How many workers should keep a copy of `segment`; 0 for a cold one."""
        if self.cold_segments and self.is_cold(segment):
            return 0
        return first_answer(self.copies, segment, self.minimum_assignments)

    def is_cold(self, segment: str) -> bool:
        """Whether `segment` belongs to the cold tier."""
        return first_answer(self.cold_segments, segment, False)

    def cold_path(self, segment: str) -> str | None:
        """Where a cold segment's file is mounted, or None without such a mount."""
        if self.cold_storage_path is None:
            return None
        return self.cold_storage_path.format(prefix=segment[:-3], segment_id=segment)

    @property
    def cold_root(self) -> str | None:
        """The directory that all cold segments' files are mounted below, or None."""
        if self.cold_storage_path is None:
            return None
        return self.cold_storage_path.partition("{")[0].rpartition("/")[0] or "/"

    @property
    def leader_ttl(self) -> float:
        """Seconds that a leadership lasts from its last renewal."""
        return 3 * self.election_cycle

    @property
    def tls(self) -> TlsFiles:
        """The files of TLS."""
        return TlsFiles(
            self.tls_cert, self.tls_key, self.tls_ca, self.tls_peer_ca, plain=self.insecure
        )

    def url(self, port: int) -> str:
        """What is published for a port over HTTP."""
        return f"{self.tls.scheme}://{self.url_host}:{port}/"

    def line_address(self, port: int) -> str:
        """What is published for a port of the line protocol."""
        return f"{'tls://' if self.tls.serves else ''}{self.url_host}:{port}"

    @property
    def url_host(self) -> str:
        """The published address as URLs and ``host:port`` write it."""
        return f"[{self.external_ip}]" if ":" in self.external_ip else self.external_ip


@dataclass(frozen=True, slots=True)
class Key:
    """One key: what :class:`Settings` says about one of its fields."""

    name: str
    kind: SettingKind
    default: object
    meaning: str
    secret: bool

    @property
    def attribute(self) -> str:
        """The field's name."""
        return self.name.lower()


#: Every key by its name, in the order of the file that explains them.
KEYS: dict[str, Key] = {
    each.name.upper(): Key(name=each.name.upper(), **each.metadata)
    for each in dataclasses.fields(Settings)
}

#: Keys of the original system that mean nothing here, and what to do instead.
REPLACED = {
    "COLD_STORE_SEGMENT": "write the rule as data into COLD_SEGMENTS",
    "HOST_CHECK_WAIT_PERIOD": "remove it: a worker is noticed when it registers",
    "READ_DATABASE_DNS_TTL": "remove it, or see COPY_TTL",
    "READ_NODE_DNS_TTL": "remove it, or see WORKER_TTL",
    "READ_THREADS": "SQL runs in processes, see EXECUTORS",
    "SEGMENT_INITIALIZATION_SQL": "register that SQL as a schema",
    "SENTRY_DSN": "remove it: errors go to the log, point your log shipper at that",
    "WRITE_THREADS": "SQL runs in processes, see WRITE_EXECUTORS",
}
