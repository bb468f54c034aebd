-- The registry, version 7: who has the writes of a segment beside the holder of its lock.

ALTER TABLE lock ADD COLUMN disk TEXT NOT NULL DEFAULT '';           -- identity of the holder's data directory; empty: nobody replicates the segment
ALTER TABLE lock ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;     -- grows with each change of a lock that is held; 0 when it is taken
ALTER TABLE lock ADD COLUMN followers TEXT NOT NULL DEFAULT '[]';    -- JSON: pairs of worker and disk that have every acknowledged write, sorted
