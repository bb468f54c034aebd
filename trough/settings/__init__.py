"""Settings: a YAML file and environment variables become one frozen value.

Read once, before anything starts, and passed to the parts that need them. A key in the
environment, by its own name, wins over the file; an empty variable, and a null in the
file, count as not given. What cannot be used is refused with one
:class:`trough.errors.BadSettings` that names the file or variable, the key, what was
given and what is allowed. Apart from reading the file, everything here is a function
of its arguments.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from trough.errors import BadSettings
from trough.settings.checks import check_together, clash
from trough.settings.keys import KEYS, REPLACED, Key, Settings
from trough.settings.kinds import ValidationError
from trough.util.default_paths import SETTINGS_FILE

__all__ = [
    "DEFAULT_FILE",
    "KEYS",
    "Key",
    "Settings",
    "load_settings",
    "one_setting",
    "settings_from",
]

DEFAULT_FILE = SETTINGS_FILE
ENVIRONMENT = "environment"

_USER_AND_PASSWORD = re.compile(r"://\S*:\S*@")


@dataclass(frozen=True, slots=True)
class _Given:
    """A value that somebody wrote down, and where."""

    value: Any
    source: str


def load_settings(
    path: str | None, environ: Mapping[str, str], hostname: str, cores: int | None = None
) -> Settings:
    """Read the settings of this process.

    :param path: the settings file; None for the one that ``TROUGH_SETTINGS`` names,
        else :data:`DEFAULT_FILE` where that is there
    :param environ: environment variables
    :param hostname: this machine's name, the default of HOSTNAME
    :param cores: processors of this machine; None: ask the system
    :raises trough.errors.BadSettings: naming file or variable, key, what was given
        and what is allowed
    """
    path = path or environ.get("TROUGH_SETTINGS") or None
    if path is None and Path(DEFAULT_FILE).exists():
        path = DEFAULT_FILE
    given = _from_file(path) if path is not None else {}
    given |= _from_environment(environ)
    return _complete(given, hostname, cores or len(os.sched_getaffinity(0)))


def one_setting(name: str, environ: Mapping[str, str]) -> Any:
    """The value of one key, without a look at whether it fits the others; None: not given.

    For tools that make what the other keys need.

    :raises trough.errors.BadSettings: as :func:`load_settings`
    """
    path = environ.get("TROUGH_SETTINGS") or (DEFAULT_FILE if Path(DEFAULT_FILE).exists() else None)
    given = _from_file(path) if path is not None else {}
    given |= _from_environment(environ)
    return given[name].value if name in given else None


def settings_from(values: Mapping[str, object], hostname: str, cores: int = 1) -> Settings:
    """Settings from values by key, as a file would give them.

    :raises trough.errors.BadSettings: as :func:`load_settings`
    """
    return _complete(_checked(values, "settings"), hostname, cores)


# -- reading --------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key_node.value} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _from_file(path: str) -> dict[str, _Given]:
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.load(text, _Loader)
    except OSError as error:
        raise BadSettings(
            f"the settings file {path} cannot be read: {error.strerror}",
            "give the path of a readable file in --settings or TROUGH_SETTINGS",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        shown = " ".join(str(error).split()).replace('"<unicode string>"', path)
        raise BadSettings(f"the settings file {path} is not YAML: {shown}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise BadSettings(
            f"the settings file {path} holds {_shown(content)}",
            "it has to hold lines such as READ_PORT: 6444",
        )
    return _checked(content, path)


def _checked(content: Mapping[Any, object], source: str) -> dict[str, _Given]:
    given = {}
    for name, value in content.items():
        key = KEYS.get(name) if isinstance(name, str) else None
        if key is None:
            raise BadSettings(f"{source}: there is no key {_shown(name)}", _hint(name))
        if value is None:
            continue
        try:
            given[name] = _Given(key.kind.from_file(value), source)
        except ValidationError as error:
            raise _refusal(source, key, value, str(error)) from error
    return given


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    given = {}
    for name, key in KEYS.items():
        text = environ.get(name, "")
        if not text:
            continue
        try:
            given[name] = _Given(key.kind.from_text(text), ENVIRONMENT)
        except ValidationError as error:
            raise _refusal(ENVIRONMENT, key, text, str(error)) from error
    return given


def _hint(name: object) -> str:
    if not isinstance(name, str):
        return "keys are words in capital letters"
    if name in REPLACED:
        return REPLACED[name]
    near = difflib.get_close_matches(name.upper(), KEYS, 1)
    return f"did you mean {near[0]}?" if near else "etc/trough.yml explains all keys"


def _refusal(source: str, key: Key, value: object, reason: str = "") -> BadSettings:
    shown = "what was given" if key.secret else _shown(value)
    because = f": {reason}" if reason and not key.secret else ""
    return BadSettings(
        f"{source}: {key.name} cannot be {shown}{because}", f"it has to be {key.kind.allowed}"
    )


def _shown(value: object) -> str:
    # A URL may carry a password, and this ends up in logs.
    shown = _USER_AND_PASSWORD.sub("://...@", ascii(value))
    return shown if len(shown) <= 120 else f"{shown[:100]}... ({len(shown)} characters)"


# -- filling in, and what has to fit together -----------------------------------


def _complete(given: dict[str, _Given], hostname: str, cores: int) -> Settings:
    values: dict[str, Any] = {name: _value(given, key) for name, key in KEYS.items()}
    if values["HOSTNAME"] is None:
        named = _checked({"HOSTNAME": hostname}, "this machine's name")
        values["HOSTNAME"] = named["HOSTNAME"].value
    values["METADATA_URL"] = _metadata_url(given, values)
    values["STORAGE_URL"] = _storage_url(given, values)
    _derive(values, cores)
    check_together(values, {name: each.source for name, each in given.items()})
    return Settings(**{KEYS[name].attribute: value for name, value in values.items()})


def _value(given: Mapping[str, _Given], key: Key) -> object:
    if key.name in given:
        return given[key.name].value
    return None if key.default is None else key.kind.from_file(key.default)


def _derive(values: dict[str, Any], cores: int) -> None:
    """Fill in the defaults that follow from other keys."""
    bind = values["BIND_ADDRESS"]
    # Debian gives a machine's own name the address 127.0.1.1, which is not where a
    # process that listens on 127.0.0.1 alone can be reached.
    reachable = values["HOSTNAME"] if bind in ("0.0.0.0", "::") else bind
    wanted = [values["MINIMUM_ASSIGNMENTS"], *(rule.answer for rule in values["COPIES"])]
    derived = {
        "EXTERNAL_IP": reachable,
        "LISTING_INTERVAL": 1.0 if values["STORAGE_URL"].startswith("file:") else 10.0,
        "MAXIMUM_ASSIGNMENTS": max(wanted),
        "EXECUTORS": cores,
        # An embedded registry is a file, which processes of one machine share.
        "WRITE_COPIES": 2 if values["METADATA_URL"].startswith("rethinkdb:") else 1,
    }
    for name, default in derived.items():
        if values[name] is None:
            values[name] = default
    if values["HOLDER_WAIT"] is None:
        values["HOLDER_WAIT"] = values["WORKER_TTL"]
    if values["MAX_EXECUTORS"] is None:
        values["MAX_EXECUTORS"] = 4 * values["EXECUTORS"]
    if values["MAX_WRITE_EXECUTORS"] is None:
        values["MAX_WRITE_EXECUTORS"] = 4 * values["WRITE_EXECUTORS"]


def _metadata_url(given: Mapping[str, _Given], values: Mapping[str, Any]) -> str:
    which = _one_way(given, "METADATA_URL", ("RETHINKDB_HOSTS",))
    if which == "RETHINKDB_HOSTS":
        return f"rethinkdb://{','.join(values['RETHINKDB_HOSTS'])}/{values['RETHINKDB_DATABASE']}"
    return values["METADATA_URL"] or _below(values, "sqlite", "registry.db")


def _below(values: Mapping[str, Any], scheme: str, name: str) -> str:
    return f"{scheme}://{quote(values['LOCAL_DATA'].rstrip('/'))}/{name}"


def _storage_url(given: Mapping[str, _Given], values: Mapping[str, Any]) -> str:
    which = _one_way(given, "STORAGE_URL", ("HDFS_HOST", "HDFS_PATH"))
    if which == "STORAGE_URL" or which is None:
        return values["STORAGE_URL"] or _below(values, "file", "canonical")
    for name in ("HDFS_HOST", "HDFS_PATH"):
        if values[name] is None:
            raise clash(given[which].source, f"{which} is given, and {name} is not", "give both")
    if values["HDFS_PORT"] == 8020:
        raise clash(
            given["HDFS_PORT"].source,
            "HDFS_PORT is 8020, where Hadoop speaks a protocol of its own",
            "give the port of the name node's WebHDFS, 9870 unless it was changed",
        )
    return f"webhdfs://{values['HDFS_HOST']}:{values['HDFS_PORT']}{values['HDFS_PATH']}"


def _one_way(given: Mapping[str, _Given], url: str, others: tuple[str, ...]) -> str | None:
    """Which of two ways to say the same was taken; the environment's wins."""
    other = next((name for name in others if name in given), None)
    if url not in given or other is None:
        return url if url in given else other
    sources = (given[url].source, given[other].source)
    if sources[0] != sources[1]:
        return url if sources[0] == ENVIRONMENT else other
    raise clash(sources[0], f"{url} and {other} are both given", "give one of the two")
