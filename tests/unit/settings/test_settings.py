"""Settings: what a file and the environment may say, and how the rest is refused."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from places import ROOT
from settings_examples import CLASHES, COMPANIONS, EXAMPLES, NEITHER_TEXT_NOR_NUMBER, WRONG

from trough.errors import BadSettings
from trough.settings import KEYS, load_settings, settings_from

EXPLAINED = ROOT / "etc" / "trough.yml"


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "settings.yml"
    path.write_text(text, encoding="utf-8")
    return str(path)


# -- the file that explains them ---------------------------------------------------


def explained() -> dict[str, tuple[str, object]]:
    """For each key of etc/trough.yml the comment above it, and its default there."""
    found = {}
    comment: list[str] = []
    for line in EXPLAINED.read_text(encoding="utf-8").splitlines():
        if re.match(r"#[A-Z_]+:", line):
            [(name, default)] = yaml.safe_load(line[1:]).items()
            assert name not in found, f"{name} is explained twice"
            found[name] = (" ".join(comment), default)
        elif line.startswith("# "):
            comment.append(line[2:])
        elif not line:
            comment = []
        else:
            assert line == "#", line
    return found


def test_every_key_is_explained() -> None:
    """etc/trough.yml has each key once, in the order of the code, and no other."""
    assert list(explained()) == list(KEYS)


@pytest.mark.parametrize("name", KEYS)
def test_the_explanation_is_true(name: str) -> None:
    """etc/trough.yml gives the default that holds, and the sentence that the code has."""
    comment, default = explained()[name]
    assert default == KEYS[name].default
    assert comment.startswith(KEYS[name].meaning)


def test_the_explained_file_can_be_used_whole(tmp_path: Path) -> None:
    """Uncommenting every line of etc/trough.yml changes nothing."""
    text = re.sub(r"(?m)^#(?=[A-Z_]+:)", "", EXPLAINED.read_text(encoding="utf-8"))
    as_file = load_settings(write(tmp_path, text), {}, "w01", cores=2)
    assert as_file == settings_from({}, "w01", cores=2)


# -- each key ----------------------------------------------------------------------


def test_the_tables_of_this_test_are_complete() -> None:
    """No key is left out of the examples or of the wrong values."""
    assert set(EXAMPLES) == set(KEYS)
    assert set(WRONG) == set(KEYS)


@pytest.mark.parametrize("name", KEYS)
def test_file_and_environment_say_the_same(name: str, tmp_path: Path) -> None:
    """A key means the same in a file and in a variable, and its value is no default."""
    in_file, in_environment, meant = EXAMPLES[name]
    file = {name: in_file} | COMPANIONS.get(name, {})
    from_file = load_settings(write(tmp_path, yaml.safe_dump(file)), {}, "w01", cores=2)
    rest = write(tmp_path, yaml.safe_dump(COMPANIONS.get(name, {})))
    from_environment = load_settings(rest, {name: in_environment}, "w01", cores=2)
    assert from_file == from_environment
    value = getattr(from_file, KEYS[name].attribute)
    assert value != getattr(settings_from({}, "w01", cores=2), KEYS[name].attribute)
    assert meant is None or value == meant


@pytest.mark.parametrize("name", KEYS)
def test_the_environment_wins(name: str, tmp_path: Path) -> None:
    """A variable replaces what the file says about the same key."""
    in_file, in_environment, _ = EXAMPLES[name]
    other = {"COPIES": [], "COLD_SEGMENTS": [], "RUN_AS_COLD_STORAGE_NODE": False}
    file = {name: other.get(name, KEYS[name].default)} | COMPANIONS.get(name, {})
    path = write(tmp_path, yaml.safe_dump(file))
    assert load_settings(path, {name: in_environment}, "w01") == settings_from(
        file | {name: in_file}, "w01", cores=load_settings(os.devnull, {}, "w01").executors
    )


@pytest.mark.parametrize("name", KEYS)
def test_wrong_values_are_refused(name: str, tmp_path: Path) -> None:
    """Another type or a value out of bounds is refused with file, key, value and rule."""
    for value in [*WRONG[name], *NEITHER_TEXT_NOR_NUMBER]:
        path = write(tmp_path, yaml.safe_dump({name: value}, sort_keys=False))
        with pytest.raises(BadSettings) as caught:
            load_settings(path, {}, "w01")
        assert caught.value.message.startswith(f"{path}: {name} cannot be "), value
        assert caught.value.hint == f"it has to be {KEYS[name].kind.allowed}"
        shown = ascii(value) if len(ascii(value)) < 100 else ascii(value)[:100]
        assert (shown in caught.value.message) != KEYS[name].secret


@pytest.mark.parametrize("name", KEYS)
def test_wrong_variables_are_refused(name: str) -> None:
    """A variable that cannot be used is refused, by the name of the environment."""
    with pytest.raises(BadSettings, match=rf"environment: {name} cannot be") as caught:
        load_settings(os.devnull, {name: "\x01 {[ é"}, "w01")
    assert caught.value.hint


@hypothesis_settings(deadline=None)
@given(st.sampled_from(sorted(KEYS)), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_variable_is_used_or_refused(name: str, text: str) -> None:
    """Whatever text a variable has, it becomes a setting or one BadSettings."""
    try:
        settings = load_settings(os.devnull, {name: text}, "w01")
    except BadSettings as error:
        assert name in str(error)
    else:
        assert settings.hostname


_YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@hypothesis_settings(deadline=None)
@given(st.sampled_from(sorted(KEYS)), _YAML)
def test_any_value_is_used_or_refused(name: str, value: object) -> None:
    """Whatever YAML value a file gives, it becomes a setting or one BadSettings."""
    try:
        settings = settings_from({name: value}, "w01")
    except BadSettings as error:
        assert name in str(error)
    else:
        assert settings.hostname


@pytest.mark.parametrize(
    ("name", "scheme"), [("METADATA_URL", "rethinkdb"), ("STORAGE_URL", "webhdfs")]
)
def test_a_password_in_a_url_is_refused_and_not_repeated(name: str, scheme: str) -> None:
    """The refusal, which ends up in logs, says where user and password belong."""
    with pytest.raises(BadSettings, match="user and password have keys") as caught:
        settings_from({name: f"{scheme}://trough:sesame@db1,db2/trough"}, "w01")
    assert "sesame" not in str(caught.value) and "db1,db2/trough" in str(caught.value)


def test_secrets_are_not_shown() -> None:
    """Neither the settings' repr nor an error shows a password or a token."""
    settings = settings_from({"AUTH_TOKEN": "sesame-open", "RETHINKDB_PASSWORD": "hushhush"}, "w")
    assert "sesame" not in repr(settings) and "hushhush" not in repr(settings)
    with pytest.raises(BadSettings) as caught:
        settings_from({"AUTH_TOKEN": "open sesame"}, "w")
    assert "sesame" not in str(caught.value)


def test_empty_and_null_mean_not_given(tmp_path: Path) -> None:
    """An empty variable and a null in the file leave the default."""
    path = write(tmp_path, "READ_PORT: null\nLINE_PORT: 7000\n")
    settings = load_settings(path, {"WRITE_PORT": "", "LINE_PORT": ""}, "w01")
    assert (settings.read_port, settings.write_port, settings.line_port) == (6444, 6222, 7000)


def test_settings_are_frozen() -> None:
    """Nothing changes settings after they were read, and they can be sent to a child."""
    settings = settings_from({"COPIES": [{"match": "x", "copies": 3}]}, "w01")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.read_port = 1  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(settings)) == settings


# -- the file ----------------------------------------------------------------------


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    """A file of comments alone is a file that gives nothing."""
    assert load_settings(write(tmp_path, "# nothing\n"), {}, "w") == load_settings(
        os.devnull, {}, "w"
    )


def test_trough_settings_names_the_file(tmp_path: Path) -> None:
    """TROUGH_SETTINGS is the file where no path is given, and a given path wins."""
    path = write(tmp_path, "LINE_PORT: 7000\n")
    assert load_settings(None, {"TROUGH_SETTINGS": path}, "w").line_port == 7000
    other = tmp_path / "other.yml"
    other.write_text("LINE_PORT: 7001\n")
    assert load_settings(str(other), {"TROUGH_SETTINGS": path}, "w").line_port == 7001


def test_the_default_file_is_read_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a path or TROUGH_SETTINGS the file in /etc counts, if there is one."""
    monkeypatch.setattr("trough.settings.DEFAULT_FILE", str(tmp_path / "settings.yml"))
    assert load_settings(None, {}, "w").line_port == 6440
    write(tmp_path, "LINE_PORT: 7000\n")
    assert load_settings(None, {}, "w").line_port == 7000


@pytest.mark.parametrize("name", ["absent.yml", "."])
def test_a_named_file_has_to_be_there(name: str, tmp_path: Path) -> None:
    """A file that was named and cannot be read is an error, not a default."""
    path = str(tmp_path / name)
    with pytest.raises(BadSettings, match=re.escape(path)):
        load_settings(path, {}, "w")
    with pytest.raises(BadSettings, match=re.escape(path)):
        load_settings(None, {"TROUGH_SETTINGS": path}, "w")


@pytest.mark.parametrize(
    "content",
    [
        b"a: [",
        b"- READ_PORT",
        b"READ_PORT",
        b"5",
        b"\xff\xfe\xff",
        b"a: !!python/object:x {}",
        b"READ_PORT: 1\nREAD_PORT: 2\n",
        b"a: *b",
        b"\x00",
        b"? [1]\n: 2\n",
        b"[" * 5000,
    ],
)
def test_what_is_no_settings_file(content: bytes, tmp_path: Path) -> None:
    """A file that is not YAML, or holds no keys, is refused by its name."""
    path = tmp_path / "settings.yml"
    path.write_bytes(content)
    with pytest.raises(BadSettings, match=re.escape(str(path))):
        load_settings(str(path), {}, "w")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("READ_PROT", "did you mean READ_PORT?"),
        ("read_port", "did you mean READ_PORT?"),
        ("HEARTBEAT", "did you mean HEARTBEAT_INTERVAL?"),
        ("XYZZY", "etc/trough.yml explains all keys"),
        ("COLD_STORE_SEGMENT", "write the rule as data into COLD_SEGMENTS"),
        ("SENTRY_DSN", "remove it: errors go to the log, point your log shipper at that"),
        (True, "keys are words in capital letters"),
        (6444, "keys are words in capital letters"),
    ],
)
def test_unknown_keys(key: object, hint: str, tmp_path: Path) -> None:
    """An unknown key is refused, with the nearest one or what takes its place."""
    path = write(tmp_path, yaml.safe_dump({key: 1}))
    with pytest.raises(BadSettings) as caught:
        load_settings(path, {}, "w")
    assert caught.value.message == f"{path}: there is no key {key!a}"
    assert caught.value.hint == hint


def test_a_rule_in_the_original_s_way_is_told_where_rules_go(tmp_path: Path) -> None:
    """Its own example has a function of Python there."""
    path = tmp_path / "settings.yml"
    path.write_text('MINIMUM_ASSIGNMENTS: "lambda segment_id: 2"')
    with pytest.raises(BadSettings, match="rules for segments go into COPIES"):
        load_settings(str(path), {}, "host")


# -- what follows from what --------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "metadata", "storage"),
    [
        ({}, "sqlite:///var/lib/trough/registry.db", "file:///var/lib/trough/canonical"),
        (
            {"LOCAL_DATA": "/my data/100%"},
            "sqlite:///my%20data/100%25/registry.db",
            "file:///my%20data/100%25/canonical",
        ),
        (
            {"METADATA_URL": "sqlite:///r.db", "STORAGE_URL": "file:///c"},
            "sqlite:///r.db",
            "file:///c",
        ),
        (
            {"RETHINKDB_HOSTS": ["a", "b:1"], "HDFS_HOST": "n", "HDFS_PATH": "/t"},
            "rethinkdb://a,b:1/trough_configuration",
            "webhdfs://n:9870/t",
        ),
        (
            {"RETHINKDB_HOSTS": "a", "RETHINKDB_DATABASE": "x", "STORAGE_URL": "file:///c"},
            "rethinkdb://a/x",
            "file:///c",
        ),
    ],
)
def test_urls(given: dict[str, object], metadata: str, storage: str) -> None:
    """The original's keys become URLs, and without any there is a place by default."""
    settings = settings_from(given, "w")
    assert (settings.metadata_url, settings.storage_url) == (metadata, storage)


@pytest.mark.parametrize(
    "url",
    [
        "webhdfs://a:9870,b:9870/t",
        "webhdfs://a:9870/t?user=trough",
        "swebhdfs://a:9871/t?auth=kerberos",
    ],
)
def test_storage_urls_are_those_that_the_storage_takes(url: str) -> None:
    """Whatever the storage can be opened with may be set, options included."""
    assert settings_from({"STORAGE_URL": url}, "w").storage_url == url


def test_the_environment_decides_between_two_ways(tmp_path: Path) -> None:
    """A variable wins over a file that says the same thing by another key."""
    path = write(tmp_path, "RETHINKDB_HOSTS: [a]\nSTORAGE_URL: file:///c\n")
    environ = {"METADATA_URL": "sqlite:///r.db", "HDFS_HOST": "n", "HDFS_PATH": "/t"}
    settings = load_settings(path, environ, "w")
    assert settings.metadata_url == "sqlite:///r.db"
    assert settings.storage_url == "webhdfs://n:9870/t"


@pytest.mark.parametrize(
    ("bind", "published", "in_urls"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "w", "w"),
        ("::", "w", "w"),
        ("::1", "::1", "[::1]"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.3"),
    ],
)
def test_published_address(bind: str, published: str, in_urls: str) -> None:
    """What is published can be reached where the process listens."""
    settings = settings_from({"BIND_ADDRESS": bind}, "w")
    assert (settings.external_ip, settings.url_host) == (published, in_urls)


def test_defaults_that_follow() -> None:
    """Rings, executors and the listing interval follow from other keys."""
    settings = settings_from({"COPIES": [{"match": "x", "copies": 5}]}, "w", cores=4)
    assert (settings.maximum_assignments, settings.executors) == (5, 4)
    assert (settings.max_executors, settings.listing_interval) == (16, 1.0)
    assert settings.leader_ttl == 15.0
    hdfs = settings_from({"STORAGE_URL": "webhdfs://n/t"}, "w")
    assert hdfs.listing_interval == 10.0


@pytest.mark.parametrize(
    ("given", "copies"),
    [
        ({}, 1),
        ({"METADATA_URL": "sqlite:///r.db"}, 1),
        ({"METADATA_URL": "rethinkdb://db1/trough"}, 2),
        ({"RETHINKDB_HOSTS": ["db1"]}, 2),
        ({"RETHINKDB_HOSTS": ["db1"], "WRITE_COPIES": 1}, 1),
    ],
)
def test_a_cluster_has_two_copies_of_each_write(given: dict[str, object], copies: int) -> None:
    """And one machine has one, unless the settings say otherwise."""
    assert settings_from(given, "w").write_copies == copies


def test_this_machine_may_have_an_unusable_name() -> None:
    """A host name that no worker can have is refused unless HOSTNAME gives another."""
    with pytest.raises(BadSettings, match="this machine's name: HOSTNAME cannot be"):
        settings_from({}, "x" * 60)
    assert settings_from({"HOSTNAME": "w01"}, "x" * 60).hostname == "w01"


@pytest.mark.parametrize(("given", "message"), CLASHES)
def test_impossible_combinations(given: dict[str, object], message: str, tmp_path: Path) -> None:
    """Keys that contradict each other are refused, whoever gave them."""
    path = write(tmp_path, yaml.safe_dump(given))
    with pytest.raises(BadSettings) as caught:
        load_settings(path, {}, "w", cores=1)
    assert caught.value.message.startswith(f"{path}: {message}")
    assert caught.value.hint


# -- rules -------------------------------------------------------------------------


def test_the_first_rule_that_matches_counts() -> None:
    """Rules are asked in order; without a match the default number of copies holds."""
    settings = settings_from(
        {
            "COPIES": [
                {"match": "^ait-", "copies": 3},
                {"from": 300000, "to": 399999, "copies": 1},
                {"match": "seed$", "copies": 4},
                {"from": 900, "copies": 5},
            ]
        },
        "w",
    )
    wanted = {"ait-seed": 3, "x-seed": 4, "x-ait-": 2, "300000": 1, "399999": 1}
    wanted |= {"400000": 5, "0900": 5, "899": 2, "9x9": 2, "-900": 2, "": 2}
    assert {segment: settings.copies_for(segment) for segment in wanted} == wanted


def test_cold_segments_have_no_copies() -> None:
    """A cold rule, and an exception before it, decide about the tier."""
    settings = settings_from(
        {
            "COLD_SEGMENTS": [{"match": "^12$", "cold": False}, {"to": 99, "cold": True}],
            "COLD_STORAGE_PATH": "/m/{prefix}/{segment_id}.sqlite",
        },
        "w",
    )
    assert [settings.is_cold(segment) for segment in ("12", "13", "99", "100", "a")] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert (settings.copies_for("13"), settings.copies_for("12")) == (0, 2)
    assert settings.cold_path("300001") == "/m/300/300001.sqlite"
    assert settings_from({}, "w").cold_path("300001") is None


def test_a_mistake_in_a_rule_is_pointed_at() -> None:
    """The number of the rule, and the key that was meant, are in the error."""
    rules = [{"match": "a", "copies": 1}, {"mach": "b", "copies": 1}]
    with pytest.raises(
        BadSettings, match=r"rule 2 has an unknown key 'mach'; did you mean 'match'"
    ):
        settings_from({"COPIES": rules}, "w")
