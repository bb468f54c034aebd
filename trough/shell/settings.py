"""The shell's own settings: a file in which every key is explained.

The first interactive start writes the file: only comments and defaults, from the same table that
reads it. An unknown key, or a value of the wrong kind, is refused with file, key and the allowed
values. The cluster's settings are separate: `trough/settings/`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trough.errors import BadSettings, TroughError
from trough.shell.output.formats import FORMATS, parse_choice
from trough.util.quoting import quoted

HEADER = """\
# Settings of trough-shell. Every key is here with its default; remove the "#" before one
# to change it. Options on the command line win over this file.
"""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _text_or_off(value: Any) -> str:
    return "off" if value is False else _text(value)  # YAML takes a bare off for false


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number, 0 or more")
    return value


def _format(value: Any) -> str:
    try:
        return str(parse_choice(_text(value)))
    except TroughError:
        raise ValueError(f"one of {', '.join(FORMATS)}, and MERGED after it") from None


def _keys(value: Any) -> str:
    if value not in ("emacs", "vi"):
        raise ValueError("emacs or vi")
    return str(value)


def _key(default: Any, check: Callable[[Any], Any], explained: str) -> Any:
    return field(default=default, metadata={"check": check, "explained": explained})


@dataclass(frozen=True, slots=True)
class ShellSettings:
    """The look and behaviour of the shell."""

    format: str = _key(
        "TABLE",
        _format,
        "How results look on a terminal: TABLE, PRETTY, JSON, VERTICAL, CSV, TSV, JSONL or\n"
        "MARKDOWN; with MERGED after it, all segments make one table with a column _segment.",
    )
    timing: bool = _key(True, _flag, "Whether to say how long a statement took.")
    confirm: bool = _key(
        True,
        _flag,
        "Whether to ask before DELETE and UPDATE without WHERE, DROP, REVERT and SHRED SEGMENT.",
    )
    null_as: str = _key("<null>", _text, "What stands for NULL in results for people.")
    max_column_width: int = _key(
        200,
        _number,
        "On a terminal TABLE cuts values after so many columns of the screen; 0: never.\n"
        "\\G, and files, always have the whole value.",
    )
    pager: str = _key(
        "",
        _text_or_off,
        "The program that shows what does not fit the screen; empty: $PAGER, else less;\n"
        "off: none.",
    )
    key_bindings: str = _key("emacs", _keys, "Keys of the line editor: emacs or vi. F4 changes it.")
    suggestions: bool = _key(
        True, _flag, "Whether to suggest the rest of a line from the history; Right takes it."
    )
    complete_while_typing: bool = _key(
        True, _flag, "Whether completions show while you type; otherwise Tab asks for them."
    )
    toolbar: bool = _key(True, _flag, "Whether there is a line at the bottom that tells the state.")
    colors: bool = _key(True, _flag, "Whether SQL and commands are coloured while you type.")
    history: str = _key(
        "",
        _text_or_off,
        "The file that keeps what you typed; empty: trough_shell_history in\n"
        "$XDG_STATE_HOME, else in ~/.local/state; off: none. Beside it,\n"
        "trough_shell_workers has the workers that were asked last.",
    )


def default_path(environ: Mapping[str, str]) -> Path:
    """The settings file, unless another one is named."""
    named = environ.get("TROUGH_SHELL_SETTINGS")
    if named:
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else _home(environ) / ".config") / "trough" / "shell.yml"


def queries_path(environ: Mapping[str, str]) -> Path:
    """The file of named queries: beside the settings."""
    return default_path(environ).with_name("queries.yml")


def history_path(settings: ShellSettings, environ: Mapping[str, str]) -> Path | None:
    """The file of the history, or None."""
    if settings.history == "off":
        return None
    if settings.history:
        return Path(settings.history).expanduser()
    base = environ.get("XDG_STATE_HOME")
    return (Path(base) if base else _home(environ) / ".local" / "state") / "trough_shell_history"


def workers_path(settings: ShellSettings, environ: Mapping[str, str]) -> Path | None:
    """The file of the workers that the last command asked, beside the history; or None."""
    history = history_path(settings, environ)
    return history.with_name("trough_shell_workers") if history is not None else None


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or "~").expanduser()


def read_settings(path: Path) -> ShellSettings:
    """The settings in a file; the defaults if there is none.

    :raises trough.errors.BadSettings: naming file, key, what was given and what is allowed
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        return ShellSettings()
    except OSError as error:
        raise BadSettings(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadSettings(f"{path}: not UTF-8: byte {error.start + 1}") from error
    if all(line.startswith("#") or not line.strip() for line in text.splitlines()):
        return ShellSettings()  # unchanged since it was written; importing YAML is slow
    import yaml

    try:
        given = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadSettings(f"{path}: not YAML: {error}") from error
    if given is None:
        return ShellSettings()
    if not isinstance(given, dict):
        raise BadSettings(f"{path}: not a list of keys and values")
    return _checked(given, path)


def _checked(given: dict[Any, Any], path: Path) -> ShellSettings:
    fields = {f.name: f for f in dataclasses.fields(ShellSettings)}
    values = {}
    for key, value in given.items():
        if key not in fields:
            raise BadSettings(
                f"{path}: unknown key {quoted(key)}", f"there are {', '.join(fields)}"
            )
        try:
            values[key] = fields[key].metadata["check"](value)
        except ValueError as error:
            raise BadSettings(f"{path}: {key}: {quoted(value)} given, {error} expected") from error
    return ShellSettings(**values)


def explained() -> str:
    """The settings file: every key, explained, at its default."""
    parts = [HEADER]
    for key in dataclasses.fields(ShellSettings):
        comment = "".join(f"# {line}\n" for line in key.metadata["explained"].split("\n"))
        parts.append(f"{comment}#{key.name}: {_yaml(key.default)}\n")
    return "\n".join(parts)


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


def write_default(path: Path) -> None:
    """Write the explained file to its place, unless one is there.

    The shell also starts if the home directory is not writable.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(explained())
