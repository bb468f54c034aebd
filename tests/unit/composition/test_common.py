"""What a process is made of, as far as it is decided without starting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trough.composition.common import own_files
from trough.settings import load_settings


@pytest.mark.parametrize(
    "name",
    [
        *("registry.db", "registry.db-wal", "data/catalogue.db", "data/lock", "data/identity"),
        *("data/segments/3/300.sqlite", "data/aside/300.sqlite", "tokens.json", "audit.log"),
        *("key.pem", "snapshots/trough-snapshots-w01/300.sqlite"),
    ],
)
def test_no_file_of_trough_is_a_segment(tmp_path: Path, name: str) -> None:
    """A second name of one, in canonical storage, is recognised; of another file it is not."""
    settings = load_settings(
        None,
        {
            "LOCAL_DATA": str(tmp_path / "data"),
            "METADATA_URL": f"sqlite://{tmp_path}/registry.db",
            "SNAPSHOT_DIRECTORY": str(tmp_path / "snapshots"),
            "TOKENS_FILE": str(tmp_path / "tokens.json"),
            "AUTH_TOKEN": "a-token-of-all-rights",
            "AUDIT_LOG": str(tmp_path / "audit.log"),
            "TLS_KEY": str(tmp_path / "key.pem"),
            "TLS_CERT": str(tmp_path / "cert.pem"),
        },
        "w01",
        cores=2,
    )
    own, other = tmp_path / name, tmp_path / "other"
    own.parent.mkdir(parents=True, exist_ok=True)
    second = tmp_path / "second"
    for path in (own, other):
        path.write_bytes(b"SQLite format 3\0")
        second.unlink(missing_ok=True)
        second.hardlink_to(path)
        assert own_files(settings).snapshot()(second.stat()) == (path is own)
