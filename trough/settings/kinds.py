"""Kinds of settings: how a value is written in a file or the environment, and checked.

A kind turns what YAML made of a value, or the text of an environment variable, into
the value that the program uses, or raises :class:`ValidationError`. It promises that
whatever it returns is usable as it stands. It knows no key and no default; who asked,
and what to say to them, is the business of :mod:`trough.settings`.
"""

from __future__ import annotations

import ipaddress
import math
import posixpath
import re
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from trough import errors, model
from trough.util.quoting import quoted


class ValidationError(ValueError):
    """A value that its kind refuses; the text, if there is one, says why."""


class SettingKind(ABC):
    """What values a setting takes.

    :ivar allowed: a phrase that completes "it has to be ..."
    """

    allowed: str

    @abstractmethod
    def from_file(self, value: object) -> object:
        """The setting's value, from what YAML read.

        :raises NotAllowed: it is of another type, or breaks the check
        """

    def from_text(self, text: str) -> object:
        """The setting's value, from an environment variable.

        :raises NotAllowed: it is of another type, or breaks the check
        """
        return self.from_file(text)


class Integer(SettingKind):
    """A whole number between two limits.

    :param more: what to do for whom a number will not do
    """

    def __init__(self, minimum: int, maximum: int, more: str = "") -> None:
        self.minimum, self.maximum = minimum, maximum
        self.allowed = f"a whole number from {minimum} to {maximum}{more}"

    def from_file(self, value: object) -> int:
        # YAML's "yes" is a bool, and a bool is an int to Python: not what was meant.
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValidationError
        if not self.minimum <= value <= self.maximum:
            raise ValidationError
        return value

    def from_text(self, text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", text.strip(), re.ASCII):
            raise ValidationError
        return self.from_file(int(text))


class Seconds(SettingKind):
    """A duration in seconds."""

    def __init__(self, minimum: float) -> None:
        self.minimum = minimum
        self.allowed = f"a number of seconds, {minimum:g} or more, without a unit"

    def from_file(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValidationError
        if not math.isfinite(value) or value < self.minimum:
            raise ValidationError
        return float(value)

    def from_text(self, text: str) -> float:
        try:
            return self.from_file(float(text))
        except ValueError:
            raise ValidationError from None


class Rate(Seconds):
    """A number of things a second."""

    def __init__(self, minimum: float) -> None:
        super().__init__(minimum)
        self.allowed = f"a number of {minimum:g} or more"


_UNITS = {"": 1, "B": 1}
_UNITS |= {prefix + "B": 1000**power for power, prefix in enumerate("kMGTP", 1)}
_UNITS |= {prefix + "iB": 1024**power for power, prefix in enumerate("KMGTP", 1)}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)
_BY_LOWER_CASE = {unit.lower(): factor for unit, factor in _UNITS.items()}


class Size(SettingKind):
    """A number of bytes, or a number with a unit: ``500 GB``, ``64 MiB``."""

    def __init__(self, minimum: int) -> None:
        self.minimum = minimum
        self.allowed = (
            f"a number of bytes, {minimum} or more, such as 1000000, 500 GB (thousands) "
            "or 64 MiB (of 1024)"
        )

    def from_file(self, value: object) -> int:
        size = value if isinstance(value, int) and not isinstance(value, bool) else None
        if isinstance(value, str):
            size = self._with_unit(value)
        if size is None or not self.minimum <= size < 2**63:
            raise ValidationError
        return size

    @staticmethod
    def _with_unit(text: str) -> int | None:
        found = _SIZE.fullmatch(text.strip())
        if found is None or found[2].lower() not in _BY_LOWER_CASE:
            return None
        factor = _BY_LOWER_CASE[found[2].lower()]
        if "." not in found[1]:
            return int(found[1]) * factor
        return round(float(found[1]) * factor)


class Flag(SettingKind):
    """Yes or no."""

    allowed = "true or false"
    _WORDS = {
        word: answer
        for answer, words in ((True, "true yes on 1"), (False, "false no off 0"))
        for word in words.split()
    }

    def from_file(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise ValidationError
        return value

    def from_text(self, text: str) -> bool:
        try:
            return self._WORDS[text.strip().lower()]
        except KeyError:
            raise ValidationError from None


class PatternText(SettingKind):
    """A text that a pattern describes.

    :param pattern: that the whole text has to match
    """

    def __init__(self, allowed: str, pattern: str = r"[^\x00-\x1f\x7f]+") -> None:
        self.allowed = allowed
        self._pattern = re.compile(pattern)

    def from_file(self, value: object) -> str:
        if not isinstance(value, str) or not self._pattern.fullmatch(value):
            raise ValidationError
        return value


class Pattern(PatternText):
    """A text without blanks; a number counts, since YAML cannot know better."""

    def __init__(self, allowed: str, pattern: str = r"[!-~]+") -> None:
        super().__init__(allowed, pattern)

    def from_file(self, value: object) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        return super().from_file(value)


class NodeName(SettingKind):
    """The name of a worker or of a sync server."""

    allowed = model.NODE_NAME_RULE.partition(" is ")[2]

    def from_file(self, value: object) -> str:
        try:
            return model.check_node_name(value)
        except errors.BadSegmentId as error:
            raise ValidationError from error


class OneOf(SettingKind):
    """One of a few words, in either case.

    :param words: what may be written, and what each stands for
    """

    def __init__(self, words: dict[str, str]) -> None:
        self._words = words
        self.allowed = "one of " + ", ".join(dict.fromkeys(words.values()))

    def from_file(self, value: object) -> str:
        if not isinstance(value, str) or value.strip().lower() not in self._words:
            raise ValidationError
        return self._words[value.strip().lower()]


class Address(SettingKind):
    """An IP address of this machine to listen on."""

    allowed = "an IP address such as 127.0.0.1, 0.0.0.0 (all of IPv4) or :: (all)"

    def from_file(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValidationError
        try:
            return str(ipaddress.ip_address(value.strip()))
        except ValueError:
            raise ValidationError from None


class PublishedHost(Pattern):
    """A host name or an IP address that others connect to."""

    def __init__(self) -> None:
        super().__init__("a host name or an IP address, without a port", r"[A-Za-z0-9_.:\-]{1,253}")

    def from_file(self, value: object) -> str:
        text = super().from_file(value)
        if ":" not in text and not re.fullmatch(r"[0-9.]+", text):
            return text
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise ValidationError("it is no address") from None
        if address.is_unspecified or address.is_multicast:
            raise ValidationError("nobody can connect to it")
        return text


# Twistd changes its working directory when it goes into the background, so a
# relative path would name another place there than where it was written.
class AbsolutePath(PatternText):
    """A path from the root of this machine's file system."""

    def __init__(self) -> None:
        super().__init__("an absolute path, beginning with /", r"/[^\x00-\x1f\x7f]*")

    def from_file(self, value: object) -> str:
        return posixpath.normpath(super().from_file(value))


class PathTemplate(AbsolutePath):
    """An absolute path with fields in braces.

    :param fields: names of the fields, and whether each has to be there
    """

    def __init__(self, fields: dict[str, bool]) -> None:
        super().__init__()
        self._fields = fields
        shown = " and ".join(f"{{{name}}}" for name in fields)
        self.allowed = f"an absolute path in which {shown} stand for parts of it"

    def from_file(self, value: object) -> str:
        template = super().from_file(value)
        try:
            pieces = list(string.Formatter().parse(template))
        except ValueError as error:
            raise ValidationError(str(error)) from error
        names = [name for _, name, _, _ in pieces if name is not None]
        unknown = [name for name in names if name not in self._fields]
        if unknown or any(spec or how for _, _, spec, how in pieces):
            raise ValidationError(f"{{{unknown[0]}}} is no field" if unknown else "")
        missing = [name for name, needed in self._fields.items() if needed and name not in names]
        if missing:
            raise ValidationError(f"it lacks {{{missing[0]}}}")
        return template


_HOST = r"(?:[A-Za-z0-9_][A-Za-z0-9_.\-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])"
_HOST_PORT = re.compile(rf"{_HOST}(?::([0-9]{{1,5}}))?")


def _is_host_port(text: str) -> bool:
    found = _HOST_PORT.fullmatch(text)
    return found is not None and 0 < int(found[1] or 1) < 65536


class Hosts(SettingKind):
    """A list of hosts, each with or without a port."""

    allowed = "a list of host names or host:port, an IPv6 address in brackets"

    def from_file(self, value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        if not isinstance(value, list) or not value:
            raise ValidationError
        for host in value:
            if not isinstance(host, str) or not self._is_one(host):
                raise ValidationError(f"{quoted(host)} is none")
        return tuple(value)

    def _is_one(self, text: str) -> bool:
        return _is_host_port(text)


class Origins(Hosts):
    """A list of origins of web pages, as browsers send them."""

    allowed = "a list of origins such as https://notebook.example.org, without a path"

    def _is_one(self, text: str) -> bool:
        scheme, separator, host = text.partition("://")
        return bool(separator) and scheme in ("http", "https") and _is_host_port(host)


class Url(SettingKind):
    """A URL of one of some schemes, with an absolute path.

    :param examples: for each scheme, how such a URL looks; one with three slashes
        takes no host, any other takes one or several, separated by commas
    :param options: names that may follow the path of a URL with hosts, as ``?name=value``
    """

    def __init__(self, examples: Sequence[str], options: Sequence[str] = ()) -> None:
        self.allowed = " or ".join(examples)
        names = "|".join(map(re.escape, options)) or "(?!)"
        self._options = re.compile(rf"((^|&)({names})=[^&=]+)+")
        self._local = {example.partition("://")[0]: ":///" in example for example in examples}

    def from_file(self, value: object) -> str:
        if not isinstance(value, str) or re.search(r"[\x00-\x1f\x7f#]", value):
            raise ValidationError
        try:
            parts = urlsplit(value)
        except ValueError as error:
            raise ValidationError(str(error)) from error
        local = self._local.get(parts.scheme)
        if local is None or not value.startswith(f"{parts.scheme}://") or len(parts.path) < 2:
            raise ValidationError
        if "@" in parts.netloc:
            raise ValidationError("user and password have keys of their own")
        hosts = parts.netloc.split(",") if parts.netloc else []
        if bool(hosts) == local or not all(map(_is_host_port, hosts)):
            raise ValidationError
        if "?" in value and (local or not self._options.fullmatch(parts.query)):
            raise ValidationError
        return value


class Parsed(SettingKind):
    """A list that YAML can write, in a file or in an environment variable.

    :param parse: makes the value, or raises :class:`ValidationError`
    :param read_yaml: turns an environment variable's text into what a file would give
    """

    def __init__(
        self,
        allowed: str,
        parse: Callable[[object], object],
        read_yaml: Callable[[str], object],
    ) -> None:
        self.allowed = allowed
        self._parse = parse
        self._read_yaml = read_yaml

    def from_file(self, value: object) -> object:
        return self._parse(value)

    def from_text(self, text: str) -> object:
        return self._parse(self._read_yaml(text))
