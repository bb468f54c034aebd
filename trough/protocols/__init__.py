"""How Trough is spoken to: the line protocol and HTTP.

PROTOCOL.rst, beside this file, describes the line protocol completely enough to write a
client from; its transcripts are tests. The line protocol's modules:

``line``           framing: bytes to requests or replies, without any I/O
``messages``       greeting, fields, errors and requests as the bytes of a line
``values``         parameters and rows: Python's values and the JSON on the wire
``arguments``      the arguments of each request, checked, as values
``verbs``          what a role hands in to be served, and how it replies
``common``         the verbs that every role has
``dispatch``       the requests under way on one connection
``server``         the transport that serves a role's verbs
``calls``          what a client has asked and not been answered yet
``client``         the transport that asks: pipelining, cancelling, back-pressure
``outbox``         what stops a connection from sending more than is read
``worker_verbs``   what a worker answers; ``sync_verbs``: a sync server

HTTP's:

``http``           what all resources have in common: limits, errors, an orderly end
``http_query``     the query ports of a worker; ``http_proxy`` passes a read on to another
``http_manager``   the manager's port of workers and sync servers, ``http_gather`` its GATHER
``http_client``    a client for servers that speak nothing else; ``row_lines``: their rows
``blocking``       a client without Twisted

For both, ``gatherer`` is GATHER as a server offers it, a few at a time (``turns``).

A transport feeds, dispatches, writes and closes. It refuses to know what a verb does; a
verb refuses to know how its answer travels. This package imports none of them, so that a
program that needs one protocol loads one protocol.
"""
