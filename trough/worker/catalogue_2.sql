-- A worker's memory of its local copies, version 2: since when writes wait for a promotion.

ALTER TABLE local_copy ADD COLUMN dirty_since REAL NOT NULL DEFAULT 0;  -- seconds since the epoch; 0: not known, or nothing waits
