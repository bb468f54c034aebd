"""The common part of the drivers: which server to ask for a segment, and what answers mean.

==============  ======================================================================
``target``      the URL of a connection: a server or a registry, and segments
``steps``       the steps of a router: ask a server, call a function that blocks
``routing``     which server to ask for a read, a write and a GATHER, and when to retry
``registry``    look-ups that block: the only module here that waits
``results``     the lines of an answer as one result
==============  ======================================================================

A router does no I/O. It is a set of generators, which yield steps and get their outcomes. So
:mod:`trough.dbapi`, which blocks, and :mod:`trough.aio` follow the same rules by the same code.
A router retries a read if the caller has got no row of it. It retries a write only if the server
refused it, or was never reached.
"""
