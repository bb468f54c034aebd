"""CDX: one capture a line, with a header or without.

The header names each field by a letter. Wget names one twice, and redirects hold blanks. So
lines are fitted to the header as far as that is certain. Without a header, the place and the look
of a field identify it. pywb, OpenWayback, the Wayback CDX API and NetarchiveSuite write 7 to 15
fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from trough import errors
from trough.load.formats.captures import LETTERS, capture, known
from trough.load.lines import Line, TextLine, texts
from trough.load.records import (
    FormatOptions,
    RecordRow,
    Records,
    Skipped,
    UnusableRecord,
    count_of_fields,
)
from trough.util.quoting import quoted

HEADER = re.compile(r"\s?CDX((?:[ \t]+\S+)+)\s*")

#: Fields that may hold the delimiter, the likeliest first. A URL may not: the text after it
#: would be taken for a part of it.
_WIDE = "rmtM"
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+;.*")

# What the number of fields means where nothing else shows it.
_BY_COUNT = {7: "NbamskS", 9: "NbamskrVg", 10: "NbamskrMVg", 11: "NbamskrMSVg"}
_BY_COUNT |= {count + 3: fields + "???" for count, fields in _BY_COUNT.items() if count > 7}

_ARCHIVE = re.compile(r".*\.w?arc(\.open)?(\.gz|\.zst|\.bz2)?", re.IGNORECASE)
_TIME = re.compile(r"[0-9]{14}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:]+")

# The fields of the first indexes, of 2006 and before, in which the IP address comes third.
_ALEXA = "AbeamsckrVvDdgMn"


def cdx(lines: Iterable[Line], reading: FormatOptions) -> Records:
    """Rows of a CDX file.

    :raises trough.errors.BadRequest: a header without the original URL
    """
    named = _named(reading.fields)
    delimiter, fields = " ", named
    for line in texts(lines, reading.max_record):
        if isinstance(line, Skipped):
            yield line
        elif header := HEADER.fullmatch(line.text):
            delimiter = "\t" if "\t" in line.text else " "
            # In a concatenation of files, each file has its own header.
            fields = named or _of_header(line, header[1].split())
        elif line.text.strip():
            yield _record(line, delimiter, fields)


def _record(line: TextLine, delimiter: str, fields: str | None) -> RecordRow | Skipped:
    text = line.text.rstrip(" \t")
    if "\t" in text and (delimiter == "\t" or text.count("\t") >= 6):
        parts = text.split("\t")
    else:
        parts = text.split(" ")
    try:
        if fields is None:
            return capture(line.number, _by_look(parts))
        return capture(line.number, _fitted(parts, fields))
    except UnusableRecord as reason:
        return Skipped(line.number, line.number, str(reason))


def _named(names: tuple[str, ...] | None) -> str | None:
    """Letters of the fields that a person names; ``?`` is one that is not stored."""
    if names is None:
        return None
    return "".join(name if len(name) == 1 else LETTERS.get(name.lower(), "?") for name in names)


def _of_header(line: TextLine, letters: list[str]) -> str:
    fields = "".join(letter if len(letter) == 1 else "?" for letter in letters)
    if not set("aA") & set(fields):
        raise errors.BadRequest(
            f"line {line.number}: cannot be read as CDX: {quoted(line.text.strip())}",
            "a header names each field by one letter, with a (URL) among them",
        )
    return fields


# -- with a header -------------------------------------------------------------


def _fitted(parts: list[str], fields: str) -> dict[str, str]:
    """The parts of a line by letter.

    :raises Unusable: they do not fit, or in more than one way
    """
    if len(parts) > len(fields) and len(without := [p for p in parts if p]) == len(fields):
        parts = without  # several blanks between two fields
    if len(parts) == len(fields):
        return _by_letter(fields, parts)
    extra = len(parts) - len(fields)
    if extra > 0 and not _run_together(parts):
        for letter in _WIDE:
            if letter in fields:
                place = fields.index(letter)
                wide = " ".join(parts[place : place + extra + 1])
                found = [*parts[:place], wide, *parts[place + extra + 1 :]]
                by_letter = _by_letter(fields, found)
                if _plausible(by_letter):
                    return by_letter
    raise UnusableRecord(_field_count(len(parts), len(fields)))


def _by_letter(fields: str, parts: list[str]) -> dict[str, str]:
    """The parts by letter; if a letter occurs twice, the first field with a value."""
    found: dict[str, str] = {}
    for letter, part in zip(fields, parts, strict=True):
        if known(found.get(letter)) is None:
            found[letter] = part
    return found


def _plausible(fields: dict[str, str]) -> bool:
    checks = {"b": _TIME, "s": re.compile("-?[0-9]{1,5}"), "S": _NUMBER, "V": _NUMBER}
    checks |= {"v": _NUMBER, "n": _NUMBER}
    if " " in fields.get("m", ""):
        checks["m"] = _MEDIA_TYPE
    return all(
        known(fields.get(letter)) is None or check.fullmatch(fields[letter])
        for letter, check in checks.items()
    )


def _run_together(parts: list[str]) -> bool:
    """Whether a second capture begins within the line."""
    return sum(_TIME.fullmatch(part) is not None for part in parts) > 1


def _field_count(found: int, expected: int) -> str:
    # The file name ends a line and the key begins one: two lines without the break
    # between them have one field fewer than twice as many.
    joined = "; two lines run together" if found == 2 * expected - 1 else ""
    return f"{count_of_fields(found)} instead of {expected}{joined}"


# -- without a header ------------------------------------------------------------


def _by_look(parts: list[str]) -> dict[str, str]:
    """The parts of a line without a header, by letter.

    :raises Unusable: the letters cannot be known
    """
    if len(parts) == 8 and _TIME.fullmatch(parts[2]) and not _TIME.fullmatch(parts[1]):
        return dict(zip("Aebmngvk", parts, strict=True))  # NetarchiveSuite
    if len(parts) < 7 or not _TIME.fullmatch(parts[1]):
        raise UnusableRecord(
            f"{count_of_fields(len(parts))}, and no header line that names them (or name them with "
            "--fields)"
        )
    if _run_together(parts):
        # Both halves of two lines of n fields have 2n - 1.
        raise UnusableRecord(_field_count(len(parts), (len(parts) + 1) // 2))
    if _ADDRESS.fullmatch(parts[2]):
        if len(parts) != len(_ALEXA):
            raise UnusableRecord("an IP address where the URL is in an index without a header")
        return dict(zip(_ALEXA, parts, strict=True))
    found = dict(zip("Nbamsk", parts, strict=False))
    return found | (_tail(parts[6:]) or _by_count(parts))


def _tail(parts: list[str]) -> dict[str, str] | None:
    """The fields after the digest, if the name of an archive file shows them."""
    for place, part in enumerate(parts):
        if place and _ARCHIVE.fullmatch(part) and _NUMBER.fullmatch(parts[place - 1]):
            found = {"g": part, "V": parts[place - 1]}
            if place > 1 and _NUMBER.fullmatch(parts[place - 2]):
                found["S"] = parts[place - 2]
            return found
    return None


def _by_count(parts: list[str]) -> dict[str, str]:
    fields = _BY_COUNT.get(len(parts))
    if fields is None:
        # Only fields with the same place in every index are known.
        return {"S": parts[6]} if len(parts) == 8 and _NUMBER.fullmatch(parts[6]) else {}
    return dict(zip(fields, parts, strict=True))
