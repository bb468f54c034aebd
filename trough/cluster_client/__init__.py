"""The Twisted client of a cluster: it routes SQL to workers and gathers their answers."""
