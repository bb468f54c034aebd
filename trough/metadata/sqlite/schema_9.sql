-- The registry, version 9: which workers can follow replicated writes.

ALTER TABLE worker ADD COLUMN replication INTEGER NOT NULL DEFAULT 0;  -- understands orders up to this version; 0: none
