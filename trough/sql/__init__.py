"""SQL on one segment, blocking: the parts of an executor.

``library``        SQLite's own configuration, which comes before anything else
``sqlite``         connections: opening, the sandbox's hooks, limits; the only importer of pysqlite3
``sandbox``        what a statement may do
``functions``      the functions that clients rely on
``text``           values written into SQL, for clients that cannot bind them
``statements``     where the statements of a text begin and end
``queries``        requests: the plan of a text, and how its answer is framed
``rows``           rows as JSON; ``row_sources`` has SQLite make it where that is exact
``handles``        connections that are kept
``reading``        queries, run a little at a time
``writing``        transactions, several to a commit
``segment_files``  operations on a whole file
"""
