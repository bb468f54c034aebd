"""Who may do what: tokens, their rights, and what was done with them.

A *token* is a secret text that a client shows. A *grant* is what a token gives: a name, rights,
and perhaps a limit to some segments. The *gate* of a process finds the grant of what a client
shows. Protocols ask the gate once for a connection or a header, and compare the grant with what
a route or verb needs. Nothing in here knows a protocol.
"""
