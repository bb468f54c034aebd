"""SQL in child processes, so that no statement can block or end a server.

An executor is a plain blocking process (``child``) that opens segments and runs SQL. The front
keeps a pool of them (``pool``) and has one socket pair to each. ``messages`` has a class for each
message, and ``ipc`` frames them. ``child.parent_socket`` and ``pool.child_socket`` are the two
ends. ``shared_memory`` shows what an executor did when it died.

On the front's side, ``process`` is one executor; ``jobs`` and ``read_jobs`` are requests.
``read_scheduler`` and ``write_scheduler`` choose the executor for a request. ``supervisor``
handles an executor that hangs or dies. ``error_frames`` makes the errors for the callers.

The rest of Trough uses :mod:`trough.executors.pool.pool`, :mod:`trough.executors.pool.task_pool`,
:mod:`trough.executors.pool.encoder_pool` and the values of :mod:`trough.executors.pool.jobs`.
"""
