-- The registry, version 1: everything that the processes of one machine tell each other.
-- A later version is a further file of this kind, which changes what this one made.
-- Times are seconds since the epoch by this machine's clock. `changed` is the number of the
-- last transaction that touched a row (see sequence), from which watchers learn what is new.

-- "trgh": tells a registry from any other SQLite file.
PRAGMA application_id = 0x74726768;

CREATE TABLE version (
    only     INTEGER PRIMARY KEY CHECK (only = 1),  -- there is one row
    version  INTEGER NOT NULL                       -- number of the last script applied
);
INSERT INTO version VALUES (1, 1);

CREATE TABLE sequence (
    only     INTEGER PRIMARY KEY CHECK (only = 1),  -- there is one row
    value    INTEGER NOT NULL,                      -- number of the last transaction that changed something watched
    horizon  INTEGER NOT NULL                       -- removals up to this number are forgotten
);
INSERT INTO sequence VALUES (1, 0, 0);

CREATE TABLE leader (
    only        INTEGER PRIMARY KEY CHECK (only = 1),  -- there is one row
    node        TEXT NOT NULL,     -- name of the sync server
    identity    TEXT NOT NULL,     -- of its process; empty: leadership was given back
    url         TEXT NOT NULL,     -- base URL of its HTTP port
    line        TEXT NOT NULL,     -- host:port of its line protocol
    generation  INTEGER NOT NULL,  -- grows by one with every change; never goes back
    ttl         REAL NOT NULL,     -- seconds that the lease runs from its renewal
    renewed_on  REAL NOT NULL      -- time of the last renewal
);

CREATE TABLE worker (
    node             TEXT PRIMARY KEY,  -- name of the worker
    identity         TEXT NOT NULL,     -- random, from its data directory
    line             TEXT NOT NULL,     -- host:port of its line protocol
    read_url         TEXT NOT NULL,     -- base URL of its read port
    write_url        TEXT NOT NULL,     -- base URL of its write port
    manager_url      TEXT NOT NULL,     -- base URL of its manager port
    capacity         INTEGER NOT NULL,  -- bytes that it offers for copies in all
    available_bytes  INTEGER NOT NULL,  -- bytes of these that are free
    load             REAL NOT NULL,     -- smaller is better
    cold_storage     INTEGER NOT NULL,  -- 1: reads cold segments in place
    ttl              REAL NOT NULL,     -- seconds after which a row not renewed is dead
    first_heartbeat  REAL NOT NULL,     -- when it registered
    last_heartbeat   REAL NOT NULL,     -- when it was renewed last
    reaped           INTEGER NOT NULL   -- 1: its copies are being removed; it has to publish them anew
) WITHOUT ROWID;

CREATE TABLE draining (
    node  TEXT PRIMARY KEY  -- a worker that is to be emptied, alive or not
) WITHOUT ROWID;

CREATE TABLE ring (
    node  TEXT PRIMARY KEY,  -- name of a worker, alive or not
    ring  INTEGER NOT NULL   -- number of its hash ring
) WITHOUT ROWID;

CREATE TABLE copy (
    segment          TEXT NOT NULL,  -- id of the segment
    role             TEXT NOT NULL,  -- trough-read or trough-write
    node             TEXT NOT NULL,  -- worker that serves it
    url              TEXT NOT NULL,  -- where clients POST their SQL
    load             REAL NOT NULL,  -- of the worker when it published
    ttl              REAL NOT NULL,  -- seconds after which the row counts for nothing
    first_heartbeat  REAL NOT NULL,  -- when it was published first
    last_heartbeat   REAL NOT NULL,  -- when it was published last
    PRIMARY KEY (segment, role, node)
) WITHOUT ROWID;
CREATE INDEX copy_by_node ON copy (node);

-- Rows stay when a lock is released: they remember the epoch, and tell watchers.
CREATE TABLE lock (
    segment      TEXT PRIMARY KEY,  -- id of the segment
    node         TEXT,              -- worker that writes it; NULL: nobody
    epoch        INTEGER NOT NULL,  -- grows with every taking; never goes back
    acquired_on  REAL NOT NULL,     -- when it was taken
    changed      INTEGER NOT NULL   -- see the head of this file
) WITHOUT ROWID;
CREATE INDEX lock_by_node ON lock (node) WHERE node IS NOT NULL;
CREATE INDEX lock_by_change ON lock (changed);

CREATE TABLE assignment (
    node         TEXT NOT NULL,     -- worker that keeps a copy
    segment      TEXT NOT NULL,     -- of this segment
    ring         INTEGER NOT NULL,  -- hash ring that the copy comes from
    path         TEXT NOT NULL,     -- of the canonical copy, below the storage's root
    size         INTEGER NOT NULL,  -- bytes of the canonical copy
    modified     INTEGER NOT NULL,  -- of the canonical copy, milliseconds since the epoch
    generation   INTEGER NOT NULL,  -- of the leader that decided it
    assigned_on  REAL NOT NULL,     -- when it was decided
    changed      INTEGER NOT NULL,  -- see the head of this file
    PRIMARY KEY (node, segment)
) WITHOUT ROWID;
CREATE INDEX assignment_by_segment ON assignment (segment);
CREATE INDEX assignment_by_change ON assignment (node, changed);

-- Assignments that are no more, for watchers; forgotten after some thousand transactions.
CREATE TABLE removal (
    node     TEXT NOT NULL,     -- worker that kept a copy
    segment  TEXT NOT NULL,     -- of this segment
    changed  INTEGER NOT NULL,  -- see the head of this file
    PRIMARY KEY (node, segment)
) WITHOUT ROWID;
CREATE INDEX removal_by_change ON removal (changed);

CREATE TABLE schema (
    id   TEXT PRIMARY KEY,  -- name of the schema
    sql  TEXT NOT NULL      -- creates an empty segment's tables
) WITHOUT ROWID;
INSERT INTO schema VALUES ('default', '');
