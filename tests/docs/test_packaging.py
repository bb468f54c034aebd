"""What an installation brings along, and what the sources of a release hold."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
import tarfile
import zipfile
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


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all that git tracks."""
    pytest.importorskip("setuptools")
    tree = tmp_path_factory.mktemp("release") / "tree"
    for name in tracked():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    return tree


def tracked() -> set[str]:
    """The names of the files that git tracks."""
    try:
        listed = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout of git")
    return {name for name in listed.stdout.split("\n") if (ROOT / name).is_file()}


def built(tree: Path, kind: str) -> Path:
    """The archive of this kind, ``sdist`` or ``wheel``."""
    build = f"from setuptools import build_meta; build_meta.build_{kind}('dist-{kind}')"
    subprocess.run([sys.executable, "-c", build], cwd=tree, capture_output=True, check=True)
    [archive] = (tree / f"dist-{kind}").iterdir()
    return archive


def test_a_release_holds_all_sources(tree: Path) -> None:
    """Whatever git tracks is in the archive of sources, and nothing but what setuptools adds."""
    (tree / "tests/__pycache__").mkdir()
    (tree / "tests/__pycache__/left.pyc").touch()
    (tree / "twisted/plugins/dropin.cache").touch()
    with tarfile.open(built(tree, "sdist")) as packed:
        held = {each.name.partition("/")[2] for each in packed.getmembers() if each.isfile()}
    assert tracked() - held == {".gitignore"}
    assert {name for name in held - tracked() if ".egg-info/" not in name} == {"PKG-INFO"}


def test_an_installation_holds_what_help_and_messages_name(tree: Path) -> None:
    """The explained settings, the units, what monitoring needs, and the documents."""
    pytest.importorskip("wheel", reason="wheel is not installed")
    with zipfile.ZipFile(built(tree, "wheel")) as packed:
        names = packed.namelist()
    data = {name.partition(".data/data/share/")[2] for name in names} - {""}
    named = {f"trough/{path.name}" for path in (ROOT / "etc").iterdir() if path.is_file()}
    named |= {"trough/prometheus/alerts.yml", "trough/grafana/trough.json"}
    assert named - data == set()
    assert {f"doc/trough/{path.name}" for path in (ROOT / "docs").glob("*.rst")} - data == set()
    packages = {name for name in tracked() if name.startswith("trough/")}
    assert packages - set(names) == set()


def test_the_scripts_of_the_debian_package() -> None:
    """A shell takes them, and what they copy is there."""
    scripts = [ROOT / "packaging/build_deb.sh", *(ROOT / "packaging/deb").iterdir()]
    for script in scripts:
        assert script.stat().st_mode & 0o111, script
        subprocess.run(["sh", "-n", str(script)], check=True)
    words = " ".join(line for line in scripts[0].read_text().split("\n") if "cp " in line).split()
    copied = [word for word in words if word.startswith(("etc/", "packaging/"))]
    assert len(copied) >= 6 and all((ROOT / name).is_file() for name in copied)
