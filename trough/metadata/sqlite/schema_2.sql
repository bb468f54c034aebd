-- The registry, version 2: workers' disks are told from older images of themselves.

CREATE TABLE disk (
    node     TEXT PRIMARY KEY,  -- name of a worker, alive or not
    counter  INTEGER NOT NULL   -- the greatest that its data directory ever had
) WITHOUT ROWID;
