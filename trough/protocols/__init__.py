"""How Trough is spoken to: the line protocol and HTTP.

PROTOCOL.rst, beside this file, describes the line protocol completely enough to write a
client from; its transcripts are tests. The modules, from bytes to people:

``line``       bytes to messages and back, without any I/O; nothing of Twisted
``values``     parameters and rows: Python's values and the JSON on the wire
``arguments``  the arguments of each request, checked, as values
``verbs``      what a role has to hand in to be served, and how it replies
``server``     the transport that serves a role's verbs
``client``     the transport that asks: pipelining, cancelling, back-pressure

A transport feeds, dispatches, writes and closes. It refuses to know what a verb does; a
verb refuses to know how its answer travels. This package imports none of them, so that a
program that needs one protocol loads one protocol.
"""
