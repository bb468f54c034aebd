"""Values of settings, right and wrong, for the tests of :mod:`trough.settings`."""

from __future__ import annotations

from trough.settings import KEYS

# For each key: a value, its text in an environment variable, and what both mean.
EXAMPLES: dict[str, tuple[object, str, object]] = {
    "HOSTNAME": ("w07", "w07", "w07"),
    "BIND_ADDRESS": ("0.0.0.0", "0.0.0.0", "0.0.0.0"),
    "EXTERNAL_IP": ("w07.example", "w07.example", "w07.example"),
    "LOCAL_DATA": ("/data/trough/", "/data/trough/", "/data/trough"),
    "SNAPSHOT_DIRECTORY": ("/fast/", "/fast/", "/fast"),
    "METADATA_URL": ("rethinkdb://a,b:2/t", "rethinkdb://a,b:2/t", "rethinkdb://a,b:2/t"),
    "RETHINKDB_HOSTS": (["a", "[::1]:28015"], "a, [::1]:28015", ("a", "[::1]:28015")),
    "HTTP_HOSTS": (["a.example.org", "b"], "a.example.org,b", ("a.example.org", "b")),
    "HTTP_ORIGINS": (
        ["https://a.example.org", "http://[::1]:8888"],
        "https://a.example.org, http://[::1]:8888",
        ("https://a.example.org", "http://[::1]:8888"),
    ),
    "RETHINKDB_DATABASE": ("other", "other", "other"),
    "RETHINKDB_USER": ("trough", "trough", "trough"),
    "RETHINKDB_PASSWORD": ("hush-hush", "hush-hush", "hush-hush"),
    "RETHINKDB_TLS": ("/etc/ssl/ca.pem", "/etc/ssl/ca.pem", "/etc/ssl/ca.pem"),
    "STORAGE_URL": ("webhdfs://nn:9870/t", "webhdfs://nn:9870/t", "webhdfs://nn:9870/t"),
    "HDFS_HOST": ("namenode", "namenode", "namenode"),
    "HDFS_PORT": (50070, "50070", 50070),
    "HDFS_PATH": ("/trough", "/trough", "/trough"),
    "HDFS_USER": ("hdfs", "hdfs", "hdfs"),
    "HDFS_PROXY": ("http://proxy:3128",) * 3,
    "HDFS_TLS": ("/etc/ssl/ca.pem",) * 3,
    "READ_PORT": (7001, "7001", 7001),
    "WRITE_PORT": (7002, "7002", 7002),
    "SYNC_LOCAL_PORT": (7003, "7003", 7003),
    "LINE_PORT": (7004, "7004", 7004),
    "SYNC_SERVER_PORT": (7005, "7005", 7005),
    "SYNC_LINE_PORT": (7006, "7006", 7006),
    "AUTH_TOKEN": ("correct-horse", "correct-horse", "correct-horse"),
    "CONNECTIONS_PER_ADDRESS": (100, "100", 100),
    "TOKENS_FILE": ("/etc/trough/tokens.json",) * 3,
    "PEER_TOKEN": (f"trough_{'0' * 16}_{'x' * 43}",) * 3,
    "AUDIT_LOG": ("/var/log/trough/audit.log",) * 3,
    "AUDIT_SQL": (True, "yes", True),
    "TLS_CERT": ("/etc/trough/node.pem",) * 3,
    "TLS_KEY": ("/etc/trough/node.key",) * 3,
    "TLS_CA": ("/etc/trough/ca.pem",) * 3,
    "TLS_PEER_CA": ("/etc/trough/ca.pem",) * 3,
    "INSECURE": (True, "yes", True),
    "ELECTION_CYCLE": (2, "2", 2.0),
    "WORKER_TTL": (60, "60", 60.0),
    "HEARTBEAT_INTERVAL": (1.5, "1.5", 1.5),
    "COPY_TTL": (3600, "3600", 3600.0),
    "SYNC_LOOP_TIMING": (30, "30", 30.0),
    "LISTING_INTERVAL": (0.5, "0.5", 0.5),
    "FULL_LISTING_INTERVAL": (600, "600", 600.0),
    "WRITE_LOCK_IDLE": (0, "0", 0.0),
    "PROMOTE_AFTER": (60, "60", 60.0),
    "WRITE_COPIES": (3, "3", 3),
    "REPLICATION_TIMEOUT": (5, "5", 5.0),
    "WRITE_WITHOUT_COPIES": ("Allow", "allow", "allow"),
    "HOLDER_WAIT": (60, "60", 60.0),
    "MESSAGE_SECONDS": (5, "5", 5.0),
    "SHUTDOWN_SECONDS": (3, "3", 3.0),
    "MINIMUM_ASSIGNMENTS": (1, "1", 1),
    "MAXIMUM_ASSIGNMENTS": (5, "5", 5),
    "COPIES": ([{"match": "x", "copies": 1}], "[{match: x, copies: 1}]", None),
    "MOVE_GRACE": (0, "0", 0.0),
    "MOVES_PER_SECOND": (0.5, "0.5", 0.5),
    "STORAGE_IN_BYTES": ("500 GB", "500GB", 500 * 10**9),
    "COPY_THREAD_POOL_SIZE": (8, "8", 8),
    "COLD_SEGMENTS": ([{"to": 9, "cold": True}], "[{to: 9, cold: true}]", None),
    "RUN_AS_COLD_STORAGE_NODE": (True, "yes", True),
    "COLD_STORAGE_PATH": ("/m/{prefix}/{segment_id}.sqlite",) * 3,
    "COLD_CACHE_BYTES": ("1.5 TiB", "1.5tib", 3 * 2**39),
    "EXECUTORS": (3, "3", 3),
    "WRITE_EXECUTORS": (1, "1", 1),
    "MAX_EXECUTORS": (12, "12", 12),
    "MAX_WRITE_EXECUTORS": (12, "12", 12),
    "EXECUTOR_MEMORY": (2**28, "256 MiB", 2**28),
    "GATHER_MEMORY": (2**29, "512 MiB", 2**29),
    "RESULT_CACHE": ("32 MiB", "32 MiB", 2**25),
    "KEPT_HANDLES": (0, "0", 0),
    "QUERY_SECONDS": (20, "20", 20.0),
    "MAX_QUERY_SECONDS": (900, "900", 900.0),
    "SLOW_QUERY_SECONDS": (2.5, "2.5", 2.5),
    "WRITE_SECONDS": (30, "30", 30.0),
    "MAX_ROWS": (1000, "1000", 1000),
    "MAX_WRITE_BODY": ("8 MB", "8 MB", 8_000_000),
    "MAX_WRITE_GROWTH": ("1 GiB", "1 GiB", 2**30),
    "MAX_SEGMENT_SIZE": ("5 GB", "5 GB", 5 * 10**9),
    "MAX_SQL_LENGTH": (100_000, "100 kB", 100_000),
    "MAX_LINE": (8192, "8 KiB", 8192),
    "MAX_LITERAL": (4096, "4096 B", 4096),
    "MAX_UNSENT": ("1 GiB", "1 GiB", 2**30),
    "LOG_LEVEL": ("WARNING", "Warn", "warn"),
    "LOG_FORMAT": ("JSON", "json", "json"),
    "GROUP_ACCESS": ("Write", "write", "write"),
}

# What has to be given along with a key for the whole to make sense.
COMPANIONS: dict[str, dict[str, object]] = {
    "TLS_CERT": {"TLS_KEY": "/k"},
    "TLS_KEY": {"TLS_CERT": "/c"},
    "TLS_PEER_CA": {"TLS_CERT": "/c", "TLS_KEY": "/k"},
    "HDFS_HOST": {"HDFS_PATH": "/x"},
    "HDFS_PATH": {"HDFS_HOST": "x"},
    "HDFS_PORT": {"HDFS_PATH": "/x", "HDFS_HOST": "x"},
    "TOKENS_FILE": {"AUTH_TOKEN": "correct-horse"},
    "PEER_TOKEN": {"AUTH_TOKEN": "correct-horse"},
}

# For each kind of key a few values of other types and out of bounds.
NEITHER_TEXT_NOR_NUMBER = [{"a": 1}, [1.5], [[]]]
WRONG: dict[str, list[object]] = {
    **{name: [True, "many", 1.5, -1, 0, 65536, 2**70] for name in KEYS if name.endswith("_PORT")},
    **{key: ["", "a b", ".a", "a" * 50, "w/1", 7, False] for key in ("HOSTNAME",)},
    **{key: ["localhost", "", "1.2.3", 7] for key in ("BIND_ADDRESS",)},
    "HDFS_HOST": ["", "a b", "http://x", 1.5, True],
    "EXTERNAL_IP": [
        *("", "a b", "http://x", 1.5, True, "w07:6444", "10.0.0.7:6444", "a:b:c", "1.2.3"),
        *("300.1.1.1", "0.0.0.0", "::", "224.0.0.1"),
    ],
    **{
        key: ["", "./var", "~", "/a\nb", 3]
        for key in (
            *("LOCAL_DATA", "SNAPSHOT_DIRECTORY", "HDFS_PATH", "RETHINKDB_TLS", "HDFS_TLS"),
            *("TOKENS_FILE", "TLS_CERT", "TLS_KEY", "TLS_CA", "TLS_PEER_CA", "AUDIT_LOG"),
        )
    },
    "METADATA_URL": [
        "",
        "sqlite:///",
        "sqlite://host/x",
        "sqlite:x",
        "rethinkdb:///t",
        5,
        "rethinkdb://h/",
        "rethinkdb://h:x/t",
        "rethinkdb://a,,b/t",
        "mysql://h/t",
        "/var/x",
        "rethinkdb://[::1/t",
        "sqlite:///a?b",
        "rethinkdb://u@h/t",
        "rethinkdb://h:99999/t",
    ],
    "STORAGE_URL": [
        *("", "file://x/y", "file:///", "webhdfs:///x", "webhdfs://h:0/x", "hdfs://h/x"),
        *("webhdfs://h/x?", "webhdfs://h/x?who=me", "file:///x?user=me"),
    ],
    "HTTP_HOSTS": ["", [], ["a b"], [1], {"a": 1}, 5],
    "HTTP_ORIGINS": ["", [], ["a.example.org"], ["https://a/b"], ["ftp://a"], ["*"], 5],
    "RETHINKDB_HOSTS": ["", [], ["a b"], [1], ["::1"], ["a:0"], ["a:65536"], {"a": 1}, 5],
    "RETHINKDB_DATABASE": ["", "a.b", "a" * 65],
    "RETHINKDB_USER": ["", 3, "a\x00"],
    "RETHINKDB_PASSWORD": ["", "a b", 1.5],
    "HDFS_USER": ["", "a b", True],
    "HDFS_PROXY": ["", "proxy:3128", "ftp://proxy", True],
    "PEER_TOKEN": ["correct-horse", "trough_0_x", 1.5],
    "AUTH_TOKEN": ["short", "has a blank in it", "€uro-token", "a" * 257, 1.5],
    **{
        key: [0, -1, "soon", "10", True, float("nan"), float("inf")]
        for key in (
            "ELECTION_CYCLE",
            "WORKER_TTL",
            "HEARTBEAT_INTERVAL",
            "COPY_TTL",
            "SYNC_LOOP_TIMING",
            "LISTING_INTERVAL",
            "FULL_LISTING_INTERVAL",
            "MESSAGE_SECONDS",
            "REPLICATION_TIMEOUT",
            "MOVES_PER_SECOND",
            "QUERY_SECONDS",
            "MAX_QUERY_SECONDS",
            "WRITE_SECONDS",
        )
    },
    **{
        key: [-0.1, "10", True, float("nan")]
        for key in (
            "WRITE_LOCK_IDLE",
            "PROMOTE_AFTER",
            "HOLDER_WAIT",
            "SHUTDOWN_SECONDS",
            "SLOW_QUERY_SECONDS",
            "MOVE_GRACE",
        )
    },
    **{
        key: [0, 65, 2.0, True, "2", "lambda s: 2"]
        for key in ("MINIMUM_ASSIGNMENTS", "MAXIMUM_ASSIGNMENTS")
    },
    **{
        key: [0, 2000, "2", 1.0, True]
        for key in (
            *("COPY_THREAD_POOL_SIZE", "EXECUTORS", "WRITE_EXECUTORS"),
            *("MAX_EXECUTORS", "MAX_WRITE_EXECUTORS"),
        )
    },
    "WRITE_COPIES": [0, 9, "2", 1.0, True],
    "WRITE_WITHOUT_COPIES": ["", "never", True, 1],
    **{key: [-1, 2**60, "9", 1.0, False] for key in ("KEPT_HANDLES", "MAX_ROWS")},
    **{
        key: [0, -1, 1.5, True, "", "lots", "5 XB", "5 G", "-5 GB", "5 GB!", 2**63, "9999 PB 1"]
        for key in (
            "STORAGE_IN_BYTES",
            "EXECUTOR_MEMORY",
            "GATHER_MEMORY",
            "MAX_WRITE_BODY",
            "MAX_SQL_LENGTH",
            "MAX_LITERAL",
            "MAX_UNSENT",
        )
    },
    **{
        key: [-1, 1.5, True, "x", 2**63]
        for key in ("RESULT_CACHE", "MAX_WRITE_GROWTH", "MAX_SEGMENT_SIZE")
    },
    "MAX_LINE": [0, 8191, "8 kB", 1.5, True, 2**63],
    "COLD_CACHE_BYTES": [-1, 1.5, True, "x", 2**63],
    "RUN_AS_COLD_STORAGE_NODE": [1, 0, "yes", "true"],
    "CONNECTIONS_PER_ADDRESS": [-1, 1.5, "many", True, 1_000_001],
    "AUDIT_SQL": [1, 0, "yes", "true"],
    "INSECURE": [1, 0, "yes", "true"],
    "COLD_STORAGE_PATH": [
        "",
        "x/{segment_id}",
        "/x",
        "/{prefix}",
        "/{segment_id}{other}",
        "/{segment_id",
        "/{}",
        "/{segment_id!r}",
        "/{segment_id:9}",
        "/{segment_id.__class__}",
        3,
    ],
    "COPIES": [
        5,
        "x",
        {},
        [5],
        [{}],
        [{"copies": 2}],
        [{"match": "x"}],
        [{"match": "(", "copies": 2}],
        [{"match": 5, "copies": 2}],
        [{"match": "x", "copies": 0}],
        [{"match": "x", "from": 1, "copies": 2}],
        [{"from": 2, "to": 1, "copies": 2}],
        [{"from": "1", "copies": 2}],
        [{"from": None, "copies": 2}],
        [{"to": True, "copies": 2}],
        [{"mach": "x", "copies": 2}],
        [{"match": "x", "copies": 2, "cold": True}],
    ],
    "COLD_SEGMENTS": [True, "lambda s: True", [{"match": "x"}], [{"match": "x", "cold": 1}]],
    "LOG_LEVEL": ["loud", "", 10, True],
    "LOG_FORMAT": ["xml", "", 10, True],
    "GROUP_ACCESS": ["all", "", 10, True],
}


CLASHES: list[tuple[dict[str, object], str]] = [
    ({"TOKENS_FILE": "/t.json"}, "TOKENS_FILE is given, and servers have no token for each other"),
    (
        {"PEER_TOKEN": f"trough_{'0' * 16}_{'x' * 43}"},
        "PEER_TOKEN is given, and clients have no token",
    ),
    ({"HEARTBEAT_INTERVAL": 15}, "HEARTBEAT_INTERVAL is 15 and WORKER_TTL is 30"),
    ({"WORKER_TTL": 10}, "HEARTBEAT_INTERVAL is 5 and WORKER_TTL is 10"),
    ({"COPY_TTL": 29}, "WORKER_TTL is 30 and COPY_TTL is 29"),
    ({"FULL_LISTING_INTERVAL": 0.5}, "LISTING_INTERVAL is 1 and FULL_LISTING_INTERVAL is 0.5"),
    ({"QUERY_SECONDS": 4000}, "QUERY_SECONDS is 4000 and MAX_QUERY_SECONDS is 3600"),
    (
        {"WRITE_EXECUTORS": 4, "MAX_WRITE_EXECUTORS": 2},
        "WRITE_EXECUTORS is 4 and MAX_WRITE_EXECUTORS is 2",
    ),
    ({"EXECUTORS": 4, "MAX_EXECUTORS": 2}, "EXECUTORS is 4 and MAX_EXECUTORS is 2"),
    ({"MAXIMUM_ASSIGNMENTS": 1}, "MINIMUM_ASSIGNMENTS is 2 and MAXIMUM_ASSIGNMENTS is 1"),
    (
        {"MAXIMUM_ASSIGNMENTS": 2, "COPIES": [{"match": "x", "copies": 3}]},
        "rule 1 of COPIES asks for 3 copies and MAXIMUM_ASSIGNMENTS is 2",
    ),
    ({"EXTERNAL_IP": "10.0.0.7"}, "EXTERNAL_IP is 10.0.0.7 and BIND_ADDRESS is 127.0.0.1"),
    (
        {"EXTERNAL_IP": "127.0.0.1", "BIND_ADDRESS": "10.0.0.7"},
        "EXTERNAL_IP is 127.0.0.1 and BIND_ADDRESS is 10.0.0.7",
    ),
    ({"EXTERNAL_IP": "127.0.1.1"}, "EXTERNAL_IP is 127.0.1.1 and BIND_ADDRESS is 127.0.0.1"),
    ({"EXTERNAL_IP": "::1"}, "EXTERNAL_IP is ::1 and BIND_ADDRESS is 127.0.0.1"),
    *(
        (
            {"LOCAL_DATA": "/data/my trough", "STORAGE_URL": f"file://{path}"},
            f"STORAGE_URL is file://{path} and LOCAL_DATA is /data/my trough",
        )
        for path in (
            "/data",
            "/data/my%20trough",
            "/data/./my%20trough/",
            "/data/my%20trough/segments",
            "/data/my%20trough/snapshots/of/yesterday",
            "/data/my%20trough/aside",
            "/data/my%20trough/cold",
        )
    ),
    ({"TLS_CERT": "/c"}, "TLS_CERT is given, and TLS_KEY is not"),
    ({"TLS_KEY": "/k"}, "TLS_KEY is given, and TLS_CERT is not"),
    ({"TLS_PEER_CA": "/a"}, "TLS_PEER_CA is given, and TLS_CERT is not"),
    ({"LINE_PORT": 6111}, "LINE_PORT and SYNC_SERVER_PORT are both 6111"),
    (
        {"RUN_AS_COLD_STORAGE_NODE": True, "COLD_CACHE_BYTES": 0},
        "RUN_AS_COLD_STORAGE_NODE is true, COLD_STORAGE_PATH is not given",
    ),
    (
        {"METADATA_URL": "sqlite:///r.db", "RETHINKDB_HOSTS": ["a"]},
        "METADATA_URL and RETHINKDB_HOSTS are both given",
    ),
    (
        {"STORAGE_URL": "file:///c", "HDFS_HOST": "n"},
        "STORAGE_URL and HDFS_HOST are both given",
    ),
    ({"HDFS_HOST": "n"}, "HDFS_HOST is given, and HDFS_PATH is not"),
    ({"HDFS_PATH": "/t"}, "HDFS_PATH is given, and HDFS_HOST is not"),
    ({"HDFS_HOST": "n", "HDFS_PATH": "/t", "HDFS_PORT": 8020}, "HDFS_PORT is 8020"),
]
