"""The metadata store of one machine: one SQLite file, read and written by all of its processes."""
