-- A worker's own memory of its local copies. Opened with synchronous = FULL: what a
-- worker believes about unpromoted writes has to outlive a power cut.

CREATE TABLE catalogue_version (
    number INTEGER NOT NULL            -- of this file; a greater one is refused
);
INSERT INTO catalogue_version VALUES (1);

CREATE TABLE local_copy (
    segment       TEXT PRIMARY KEY,    -- segment id
    path          TEXT NOT NULL,       -- of the canonical copy, relative to the storage's root
    modified      INTEGER NOT NULL,    -- of the canonical version held, ms; 0: never promoted
    size          INTEGER NOT NULL,    -- of the canonical version held, bytes
    checksum      TEXT NOT NULL,       -- of the canonical version held, or empty
    epoch         INTEGER NOT NULL,    -- of the write lock; 0: a copy that is only read
    unpromoted    INTEGER NOT NULL,    -- 1: may have writes that are in no canonical copy
    publishing    TEXT NOT NULL,       -- checksums of promotions that were begun since one succeeded
    file_size     INTEGER NOT NULL,    -- of the local file when it was installed, bytes
    file_modified INTEGER NOT NULL     -- of the local file when it was installed, ns
) WITHOUT ROWID;
