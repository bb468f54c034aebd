"""SQL in processes of their own, so that no statement can hold up or bring down a server.

An executor is a plain blocking process (``executor``, ``parts``) that opens segments and
runs SQL; the front keeps a pool of them (``pool``) and speaks to each over one socket pair
(``channel``, ``frames``). Of the front's side, ``process`` is one executor, ``jobs`` and
``read_jobs`` what was asked, ``read_routing`` and ``write_routing`` who is asked, and
``supervision`` what happens when an executor hangs or dies.

The rest of Trough uses :mod:`trough.executors.pool` and the values of
:mod:`trough.executors.jobs`.
"""
