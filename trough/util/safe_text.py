"""Values as text that does nothing to a terminal but show itself.

What came out of a database is somebody else's: an escape sequence in a URL must not
move the cursor, a bidirectional override must not swap columns, a combining mark must
not crawl over the border. Everything invisible or active is shown as a backslash escape
(``\\x1b``, ``\\u202e``), and every function knows how many columns of the screen its
result takes. It refuses to know about tables.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable

#: Shown in the place of what was cut off.
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

#: More combining marks than this on one character grow into the neighbouring lines.
MAX_MARKS = 6

_DOTTED_CIRCLE = "\N{DOTTED CIRCLE}"
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# Zero width (non-)joiners are format characters too, but Persian and emoji need them.
_JOINERS = "\u200c\u200d"
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})

_ISOLATE, _POP = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})

#: Bytes of a BLOB that are shown.
BLOB_SHOWN = 16


def safe(text: str) -> str:
    """`text` with everything that is active, invisible or broken written out."""
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = 0
    for index, character in enumerate(text):
        if character.isascii():
            shown.append(character if character.isprintable() else _escaped(character))
            marks = 0
            continue
        category = unicodedata.category(character)
        if category in _UNSAFE_CATEGORIES and not _joins(text, index):
            shown.append(_escaped(character))
            marks = 0
        elif category in ("Mn", "Me"):
            marks += 1
            if not shown:
                shown.append(_DOTTED_CIRCLE)
            shown.append(character if marks <= MAX_MARKS else _escaped(character))
        else:
            shown.append(character)
            marks = 0
    return "".join(shown)


def _joins(text: str, index: int) -> bool:
    """Whether a character joins two that are shown as they are.

    A joiner at another place is invisible, and takes columns from what follows it.
    """
    if text[index] not in _JOINERS or not 0 < index < len(text) - 1:
        return False
    before, after = text[index - 1], text[index + 1]
    return not (
        before.isascii()
        or after.isascii()
        or unicodedata.category(before) in _UNSAFE_CATEGORIES
        or unicodedata.category(after) in (*_UNSAFE_CATEGORIES, "Zs")
    )


def safe_lines(text: str) -> str:
    """As :func:`safe`, but for a text of several lines, which stay lines."""
    return "\n".join(safe(line.expandtabs()) for line in text.split("\n"))


_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def safe_json(text: str) -> str:
    """`text`, which is JSON, in characters that a terminal takes as characters.

    It means the same: only JSON's own escapes are used. Newlines between values stay.
    """
    escaped = _ACTIVE.sub(_json_escape, text)
    return escaped.encode("utf-8", "backslashreplace").decode("utf-8")


def _json_escape(match: re.Match[str]) -> str:
    return match[0] if match[0] == "\n" else f"\\u{ord(match[0]):04x}"


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def width(text: str) -> int:
    """Columns of the screen that `text` takes, which :func:`safe` has made."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    columns = wcswidth(text)
    return columns if columns >= 0 else len(text)


def cut(text: str, columns: int) -> str:
    """`text` in at most `columns` columns; what is cut off shows as an ellipsis."""
    if len(text) * 2 <= columns or width(text) <= columns:
        return text
    if text.isascii():
        return text[: columns - 1] + ELLIPSIS
    used = 0
    for index, character in enumerate(text):
        used += width(character)
        if used > columns - 1:
            return _fitting(text[:index], columns - 1) + ELLIPSIS
    return _fitting(text, columns - 1) + ELLIPSIS


def _fitting(text: str, columns: int) -> str:
    # A variation selector widens the character before it.
    while width(text := text.rstrip(_JOINERS)) > columns:
        text = text[:-1]
    return text


def padded(text: str, columns: int, right: bool = False) -> str:
    """`text` filled up with blanks to `columns` columns.

    Text written from right to left is isolated, so that a terminal which reorders it
    leaves the neighbouring cells where they are.
    """
    fill = " " * (columns - width(text))
    if not text.isascii() and any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text):
        text = f"{_ISOLATE}{text}{_POP}"
    return fill + text if right else text + fill


def show_value(value: object, null: str = "<null>") -> str:
    """A value of SQLite for a person: safe, on one line, integers whole."""
    show = _SHOW.get(type(value))
    if show is not None:
        return show(value)
    return null if value is None else safe(str(value))


def _show_real(value: float) -> str:
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return repr(value)


def _show_blob(value: bytes) -> str:
    more = ELLIPSIS if len(value) > BLOB_SHOWN else ""
    return f"<blob {len(value)} bytes: {value[:BLOB_SHOWN].hex()}{more}>"


_SHOW: dict[type, Callable[..., str]] = {
    str: safe,
    int: str,
    float: _show_real,
    bytes: _show_blob,
}
