"""The shell: `trough-shell`, for people who ask, and for their scripts.

The reactor runs on its own thread, with the client of the cluster. The shell is plain blocking
code on the main thread, which waits for the reactor (`cluster/reactor_bridge.py`). The modules:

* `main.py` reads the command line and puts everything together. `shell.py` runs statements,
  whether they are typed, piped or read from a file;
* `commands/` holds the commands, including SQL (`commands/queries.py`). All commands are in one
  registry (`command_registry.py`). Dispatch, help and completion come from it;
* `session.py` holds the shell's state, and the one narrow interface to the cluster.
  `cluster/remote.py`, `cluster/direct.py` and `cluster/gather_query.py` implement the interface.
  `cluster/probe.py` and `trough/cli/outage.py` report a metadata store that is away;
* `input/statements.py` and `input/batches.py` split and group what is typed, with
  `trough/sql/tokens.py`. `output/formats.py`, `output/sections.py` and `output/results.py` turn
  results into text, with the renderers of :mod:`trough.formats`. All of these take values and
  return values: no terminal, no reactor;
* `runner.py` runs one query to its end, `output/sinks.py` writes to the terminal or a pager, and
  `trough/cli/progress.py` draws the progress;
* `input/editor.py` is the line editor, with `input/completer.py`, `input/known_names.py`,
  `input/highlighting.py` and `input/vocabulary.py`. `settings.py` and `named_queries.py` read and
  write the user's files.
"""
