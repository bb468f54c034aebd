"""Which registry a command-line tool means that was not told."""

import pytest

from trough import errors
from trough.cli.metadata_url import access_token, registry_url
from trough.metadata.url import parse


def settings(tmp_path, text):
    """An environment with a settings file."""
    path = tmp_path / "settings.yml"
    path.write_text(text)
    return {"TROUGH_SETTINGS": str(path)}


def test_the_command_line_wins_then_the_environment(tmp_path):
    """-u before TROUGH_URL before the settings file."""
    environ = settings(tmp_path, "METADATA_URL: sqlite:///c/registry.db\n")
    assert registry_url(None, environ) == "sqlite:///c/registry.db"
    environ["TROUGH_URL"] = "sqlite:///b/registry.db"
    assert registry_url(None, environ) == "sqlite:///b/registry.db"
    assert registry_url("sqlite:///a/registry.db", environ) == "sqlite:///a/registry.db"


def test_without_any_it_is_the_registry_of_make_run(tmp_path, monkeypatch):
    """$TROUGH_HOME, else ./var, as a URL that can be opened whatever is in the path."""
    home = tmp_path / "a home?"
    assert parse(registry_url(None, {"TROUGH_HOME": str(home)})).path == home / "registry.db"
    monkeypatch.chdir(tmp_path)
    assert parse(registry_url(None, {})).path == tmp_path / "var" / "registry.db"


def test_the_password_of_the_settings_goes_into_the_url(tmp_path):
    """Tools take one URL: user and password of the settings file are in it, quoted."""
    environ = settings(
        tmp_path,
        "RETHINKDB_HOSTS: [db1, db2]\nRETHINKDB_USER: me\nRETHINKDB_PASSWORD: 'a/b@c'\n"
        "AUTH_TOKEN: open-sesame\n",
    )
    address = parse(registry_url(None, environ))
    assert (address.user, address.password) == ("me", "a/b@c")
    assert [host for host, _ in address.hosts] == ["db1", "db2"]
    assert access_token(environ) == "open-sesame"
    assert access_token({"AUTH_TOKEN": "from-outside"}) == "from-outside"


def test_settings_that_cannot_be_used_are_an_error(tmp_path):
    """A broken settings file is told of, not passed over."""
    with pytest.raises(errors.BadSettings):
        registry_url(None, settings(tmp_path, "NONSENSE: 1\n"))


def test_the_environment_has_user_and_password(tmp_path):
    """They stay out of the URL, for tools as for servers; a URL that has some wins."""
    environ = {
        "TROUGH_URL": "rethinkdb://db1,db2/trough",
        "RETHINKDB_USER": "trough",
        "RETHINKDB_PASSWORD": "a/b@c",
    }
    address = parse(registry_url(None, environ))
    assert (address.user, address.password) == ("trough", "a/b@c")
    address = parse(registry_url("rethinkdb://me:mine@db1/trough", environ))
    assert (address.user, address.password) == ("me", "mine")
    del environ["RETHINKDB_USER"]
    assert parse(registry_url(None, environ)).user == "admin"
    assert registry_url("sqlite:///a/registry.db", environ) == "sqlite:///a/registry.db"
