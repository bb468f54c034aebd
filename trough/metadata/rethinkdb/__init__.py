"""The metadata store of a cluster: RethinkDB, by the official driver on Twisted."""
