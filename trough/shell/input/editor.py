"""The line editor of the shell, and the loop of an interactive session.

prompt_toolkit reads and the shell runs. Enter runs complete input, and otherwise begins the next
line. Ctrl-C clears the line, or cancels what runs. Ctrl-D on an empty line leaves.
"""

from __future__ import annotations

import contextlib
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import ThreadedCompleter
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import has_focus, has_selection
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.styles import Style

from trough import errors
from trough.errors import TroughError
from trough.shell.command_registry import Registry
from trough.shell.input.completer import ShellCompleter
from trough.shell.input.highlighting import STYLE, ShellLexer
from trough.shell.input.known_names import KnownNames
from trough.shell.input.statements import Splitter, lines_of, split
from trough.shell.shell import AlreadyReported, Quit, Shell, unfinished
from trough.util.wording import counted

WELCOME = (
    "SHOW SEGMENTS lists what there is, and CONNECT chooses; HELP lists the commands.\n"
    "SQL ends with a semicolon; Ctrl-D leaves."
)


def is_whole(text: str, registry: Registry) -> bool:
    """Whether Enter runs `text`, instead of beginning the next line.

    Only a semicolon ends SQL. If an empty line ended a DELETE before its WHERE, the table would
    be emptied.
    """
    splitter = Splitter(registry.rest_of)
    for line in lines_of(text + "\n"):
        for _ in splitter.feed(line):
            pass
    return not splitter.pending and not splitter.open_token


def bindings(registry: Registry) -> KeyBindings:
    """Enter, and F4 for the other kind of keys."""
    keys = KeyBindings()

    @keys.add("enter", filter=has_focus("DEFAULT_BUFFER") & ~has_selection)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state and buffer.complete_state.current_completion:
            buffer.complete_state = None  # Enter accepts the completion, and runs nothing
        elif is_whole(buffer.text, registry):
            buffer.validate_and_handle()
        else:
            buffer.newline(copy_margin=not event.app.paste_mode())

    @keys.add("f4")
    def _(event: KeyPressEvent) -> None:
        vi = event.app.editing_mode is EditingMode.VI
        event.app.editing_mode = EditingMode.EMACS if vi else EditingMode.VI

    return keys


def open_history(path: Path | None) -> History:
    """The history, in a file of its user, or in memory if there can be no file."""
    if path is None:
        return InMemoryHistory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


class Editor:
    """The line editor of one shell.

    :param terminal: further arguments of prompt_toolkit's session: input and output
    """

    def __init__(self, shell: Shell, names: KnownNames, history: History, **terminal: Any) -> None:
        settings = shell.settings
        self._shell = shell
        self._prompt: PromptSession[str] = PromptSession(
            message=lambda: shell.session.prompt,
            multiline=True,
            prompt_continuation=_continuation,
            lexer=ShellLexer(shell.registry) if settings.colors else None,
            style=Style.from_dict(STYLE),
            include_default_pygments_style=False,
            completer=ThreadedCompleter(ShellCompleter(shell.registry, shell.session, names)),
            complete_while_typing=settings.complete_while_typing,
            auto_suggest=AutoSuggestFromHistory() if settings.suggestions else None,
            history=history,
            enable_open_in_editor=True,
            editing_mode=EditingMode.VI if settings.key_bindings == "vi" else EditingMode.EMACS,
            bottom_toolbar=self._toolbar if settings.toolbar else None,
            key_bindings=bindings(shell.registry),
            **terminal,
        )

    def read(self) -> str:
        """The typed text, as soon as it is complete.

        :raises KeyboardInterrupt: Ctrl-C
        :raises EOFError: Ctrl-D on an empty line
        """
        return self._prompt.prompt()

    def _toolbar(self) -> str:
        session = self._shell.session
        count = len(session.segments)
        where = counted(count, "segment") if count != 1 else session.segments[0]
        mode = "read-write" if session.writable else "read only"
        keys = "vi" if self._prompt.app.editing_mode is EditingMode.VI else "emacs"
        parts = [where if count else "not connected", mode, str(session.choice), f"F4: {keys}"]
        if session.expanded:
            parts.insert(3, "expanded")
        text = self._prompt.default_buffer.text
        if "\n" in text:
            parts.append("; ends the statement")
        return " " + " | ".join(parts)


def _continuation(width: int, line_number: int, wrapped: int) -> str:
    return "" if wrapped else "...> ".rjust(width)


def converse(shell: Shell, read: Callable[[], str], names: KnownNames, verbose: bool) -> None:
    """Read and run until the user leaves.

    :param verbose: show where an internal error came from
    """
    known: tuple[str, ...] = ()
    signal.signal(signal.SIGINT, _not_now)
    while True:
        if shell.session.segments != known:
            known = shell.session.segments
            names.refresh(known)
        try:
            text = read()
            with _interruptible():
                run_typed(shell, text, verbose)
        except KeyboardInterrupt:
            continue
        except (EOFError, Quit):
            return
        if _may_change_tables(text):
            names.refresh(known)


def _not_now(*_: object) -> None:
    """Between a statement and the next prompt there is nothing to interrupt."""


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run_typed(shell: Shell, text: str, verbose: bool = False) -> None:
    """Run the typed text, up to the first statement that fails, and report the reason.

    Nothing runs if the last statement has no end.
    """
    try:
        statements = split(text, shell.registry.rest_of)
        if statements and not statements[-1].ended:
            raise unfinished(statements[-1])
        for statement in statements:
            shell.execute(statement)
    except AlreadyReported:
        pass
    except TroughError as error:
        shell.complain_of(error)
    except KeyboardInterrupt:
        shell.complain_of(errors.Cancelled("cancelled"))
    except (Quit, EOFError):
        raise Quit from None
    except Exception as error:  # one broken command must not end a session
        shell.complain(f"internal error: {type(error).__name__}: {error}")
        shell.complain(traceback.format_exc() if verbose else "trough-shell -v tells more")


def _may_change_tables(text: str) -> bool:
    words = text.upper().split()
    return any(word in words for word in ("CREATE", "ALTER", "DROP", "INFILE", "SOURCE"))


def ask(question: str) -> str:
    """Ask a person. The end of input counts as no answer."""
    try:
        return input(question)
    except EOFError:
        print()
        return ""
    except KeyboardInterrupt:
        print()
        raise
