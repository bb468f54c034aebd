-- The registry, version 8: a plan that was made before a deletion does not bring the segment back.

-- The last deletions; earlier ones are forgotten.
CREATE TABLE deletion (
    number   INTEGER PRIMARY KEY,  -- grows by one with every deletion
    segment  TEXT NOT NULL         -- id of the segment
);
