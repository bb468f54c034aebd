"""The shell: `trough-shell`, for people who ask, and for their scripts.

The reactor runs on a thread of its own, where the client of the cluster lives; the shell
is plain blocking code on the main thread, which waits for it (`bridge.py`). Who reads on:

* `main.py` reads the command line and puts everything together; `shell.py` runs
  statements, typed, piped or read from a file alike;
* `commands/` holds the commands, SQL among them (`commands/queries.py`), in one registry
  (`registry.py`), out of which come dispatch, help and completion;
* `session.py` is what the shell is connected to, and the one narrow interface through
  which it touches the cluster; `remote.py` and `gathering.py` carry that out, and
  `outage.py` and `reach.py` tell of a metadata store that is away;
* `statements.py` and `batches.py` cut and sort what is typed, with `trough/sql/tokens.py`;
  `formats.py`, `sections.py` and `results.py` make text of what comes, with the renderers of
  :mod:`trough.formats`.
  All of these are values in, values out: no terminal, no reactor;
* `runner.py` takes one query to its end, `output.py` leads to the terminal or a pager, and
  `progress.py` draws how far it is;
* `interactive.py` is the line editor, with `completer.py`, `names.py`, `highlighting.py`
  and `vocabulary.py`; `settings.py` and `named_queries.py` are the files of its user.
"""
