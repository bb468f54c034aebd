-- The registry, version 5: what a worker has that is in no canonical copy.

ALTER TABLE worker ADD COLUMN unpromoted INTEGER NOT NULL DEFAULT 0;  -- segments with such writes
ALTER TABLE worker ADD COLUMN unpromoted_bytes INTEGER NOT NULL DEFAULT 0;  -- that their files take
ALTER TABLE worker ADD COLUMN unpromoted_since REAL NOT NULL DEFAULT 0;  -- since when the oldest waits, in seconds since the epoch; 0: nothing waits, or not known
