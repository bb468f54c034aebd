"""What the drivers share: whom to ask for a segment, and what answers mean.

==============  ======================================================================
``target``      the URL of a connection: a server or a registry, and segments
``steps``       what a driver does for a router: ask a server, call what blocks
``routing``     whom to ask for a read, a write and a GATHER, and when to ask again
``registry``    look-ups that block: the one module here that waits
``results``     the lines of an answer as one result
==============  ======================================================================

A router does no I/O: it is a set of generators, which yield steps and get their outcomes. So
:mod:`trough.dbapi`, which blocks, and :mod:`trough.aio` follow the same rules by the same code.
A read is asked again where no row of it was given out. A write is sent again only if the server
refused it, or was never reached.
"""
