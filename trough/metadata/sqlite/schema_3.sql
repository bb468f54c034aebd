-- The registry, version 3: whether it tells of all segments.

CREATE TABLE inventory (
    only      INTEGER PRIMARY KEY CHECK (only = 1),  -- there is one row
    known     INTEGER NOT NULL,  -- 1: each segment in canonical storage is assigned, or unplaced
    unplaced  TEXT NOT NULL,     -- JSON array of segments that no worker can take at present
    change    INTEGER NOT NULL   -- grows whenever anything else is said
);
INSERT INTO inventory VALUES (1, 0, '[]', 0);
