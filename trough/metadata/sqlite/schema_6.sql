-- The registry, version 6: which locks of a dead worker can be released without loss, and which
-- workers are under maintenance.

ALTER TABLE lock ADD COLUMN dirty_since REAL;  -- since when there may be unpromoted writes, in seconds since the epoch; 0: there are none; NULL: not known, treated as dirty

CREATE TABLE pause (
    node   TEXT PRIMARY KEY,  -- a worker whose copies are not moved, alive or not
    until  REAL NOT NULL      -- when that ends
) WITHOUT ROWID;
