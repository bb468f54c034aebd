-- The registry, version 4: what a server reports for the operator.

ALTER TABLE leader ADD COLUMN trouble TEXT NOT NULL DEFAULT '';  -- why the leader's rounds fail; empty: they do not
ALTER TABLE worker ADD COLUMN trouble TEXT NOT NULL DEFAULT '';  -- what an operator has to look at; empty: nothing
