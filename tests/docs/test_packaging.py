"""What an installation brings along, and what the sources of a release hold."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
import tarfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from places import ROOT


def _imported() -> set[str]:
    """Names of what the package imports from elsewhere, wherever in it."""
    found = set()
    for path in [*(ROOT / "trough").rglob("*.py"), *(ROOT / "twisted").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"trough"}


def _required() -> dict[str, Requirement]:
    """What setup.cfg requires, by its name in lower case."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split()
    return {each.name.lower(): each for each in map(Requirement, lines)}


def _of_extras() -> set[str]:
    """What extras bring, which is imported where it is wanted."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]
    return {
        Requirement(extras[name].strip()).name for name in ("warc", "arrow", "zstd", "sqlalchemy")
    }


def test_what_is_imported_is_required_and_nothing_else() -> None:
    """Each package that the code imports is named in setup.cfg; no other one is."""
    required = _required().keys()
    by_import = packages_distributions()
    optional = _of_extras()
    # Of those that share a name (zope), the one that is required is meant.
    needed = {
        frozenset(each.lower() for each in by_import[name]) for name in _imported() - optional
    }
    assert [sorted(names) for names in needed if not names & required] == []
    assert required - set().union(*needed) == set()


def test_warcprox_fits_into_the_same_environment() -> None:
    """It imports trough.client, and brings doublethink 0.4, which pins RethinkDB's driver."""
    assert "2.4.9" in _required()["rethinkdb"].specifier


def test_a_release_holds_all_sources(tmp_path: Path) -> None:
    """Whatever git tracks is in the archive of sources, and nothing but what setuptools adds."""
    pytest.importorskip("setuptools")
    try:
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout of git")
    tracked = {name for name in listed.stdout.split("\n") if (ROOT / name).is_file()}
    tree = tmp_path / "tree"
    for name in tracked:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    (tree / "tests/__pycache__").mkdir()
    (tree / "tests/__pycache__/left.pyc").touch()
    (tree / "twisted/plugins/dropin.cache").touch()
    build = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, check=True)
    [archive] = (tree / "dist").iterdir()
    with tarfile.open(archive) as packed:
        held = {each.name.partition("/")[2] for each in packed.getmembers() if each.isfile()}
    assert tracked - held == {".gitignore"}
    assert {name for name in held - tracked if ".egg-info/" not in name} == {"PKG-INFO"}
