"""Trough's two protocols: the line protocol and HTTP.

PROTOCOL.rst, beside this file, has all that is needed to write a client of the line protocol.
Its transcripts are tests. The modules of the line protocol, in ``line``:

``framing``        bytes to requests or replies, without any I/O
``messages``       greeting, fields, errors and requests as the bytes of a line
``values``         parameters and rows: Python's values and the JSON on the wire
``arguments``      the arguments of each request, checked, as values
``replies``        the verbs that a role serves, and how it replies
``common_verbs``   the verbs that every role has
``dispatch``       the requests under way on one connection
``server``         the transport that serves a role's verbs
``pending_calls``  the calls of a client that have no answer yet
``client``         the client's transport: pipelining, cancelling, back-pressure
``write_buffer``   keeps a connection from sending more than the peer reads
``worker_verbs``   the verbs of a worker; ``sync_verbs``: of a sync server
``blocking``       a client without Twisted

Those of HTTP, in ``http``:

``channel``        a connection; ``request``: what is asked and answered; ``site``: a port
``resource``       common to all resources: tokens, errors
``headers``        names that servers and clients share
``query``          the query ports of a worker; ``proxy`` passes a read on to another worker
``manager``        the manager's port of workers and sync servers; ``gather``: its GATHER
``manager_client`` one server's requests to another; ``response_body`` reads the answers

For both, ``gather_service`` runs GATHERs on a server, a few at a time (``gather_slots``).

A transport feeds, dispatches, writes and closes. It does not depend on what a verb does. A verb
does not depend on how its answer travels. This package imports none of its modules, so a program
that needs one protocol loads one protocol.
"""
