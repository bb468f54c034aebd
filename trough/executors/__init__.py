"""SQL in processes of their own, so that no statement can hold up or bring down a server.

An executor is a plain blocking process (``executor``, ``parts``) that opens segments and
runs SQL; the front keeps a pool of them (``pool``) and speaks to each over one socket pair
(``frames``, with ``channel`` at one end and ``front_socket`` at the other), beside memory
that tells what a dead one was at (``shared_table``). Of the front's side, ``process`` is one
executor, ``jobs`` and ``read_jobs`` what was asked, ``read_routing`` and ``write_routing`` who
is asked, ``supervision`` what happens when an executor hangs or dies, and ``failures`` what
whoever asked is told then.

The rest of Trough uses :mod:`trough.executors.pool.pool` and the values of
:mod:`trough.executors.pool.jobs`.
"""
