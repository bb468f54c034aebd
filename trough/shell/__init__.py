"""The shell: `trough-shell`, for people who ask, and for their scripts.

The reactor runs on a thread of its own, where the client of the cluster lives; the shell
is plain blocking code on the main thread, which waits for it (`bridge.py`). Who reads on:

* `main.py` reads the command line and puts everything together; `shell.py` runs
  statements, typed, piped or read from a file alike;
* `commands/` holds the commands in one registry, out of which come dispatch, help and
  completion; whatever is no command is SQL (`sql_commands.py`);
* `session.py` is what the shell is connected to, and the one narrow interface through
  which it touches the cluster;
* `tokens.py`, `statements.py`, `formats.py`, `safe_text.py` and `results.py` are pure:
  values in, values out, no terminal, no reactor.
"""
