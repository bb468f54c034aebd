"""The folders of the project: a folder knows those above it in a list, and none below.

A new folder is added to :data:`LAYERS`. Imports are read from the source, those for type
checking included.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import places

ROOT = places.ROOT / "trough"

#: Folders and modules at the top of the package, from the top down. Those of one line may
#: know each other; a star stands for a folder with all that is in it.
LAYERS = [
    ["errors"],
    ["util"],
    ["tls"],
    ["model"],
    ["settings"],
    ["access"],
    ["leader/placement"],
    ["sql", "formats", "metrics"],
    ["executors", "executors/child"],
    ["executors/pool"],
    ["metadata*"],
    ["storage*"],
    ["replication"],
    ["worker"],
    ["leader"],
    ["gather"],
    # GATHER is a service of both servers, and it asks the workers through the cluster's client.
    ["protocols*", "cluster_client", "sync"],
    ["drivers"],
    ["client", "dbapi", "aio"],
    ["sqlalchemy"],
    ["cli", "shell*"],
    ["load*", "admin"],
    ["composition", "example", "service"],
    ["taps"],
]

#: Cores: functions of values, without a clock, a socket, a thread or a framework.
PURE = ["errors", "model", "settings*", "leader.placement*", "metadata.conditions"]
PURE += ["access.rights", "access.tokens", "metrics.totals", "metrics.histogram"]
PURE += ["metrics.executor_measures"]
PURE += ["formats*", "storage.listing", "storage.paths", "worker.read_rule"]
PURE += ["replication.messages", "replication.follower", "replication.holder"]
PURE += ["protocols.line.framing", "protocols.line.messages", "protocols.line.values"]
PURE += ["protocols.line.query_replies", "protocols.line.handshake"]
PURE += ["drivers.steps", "drivers.routing", "drivers.results", "drivers.target", "drivers.arrow"]
IMPURE = {"twisted", "time", "socket", "select", "selectors", "threading", "subprocess"}
IMPURE |= {"asyncio", "random", "multiprocessing", "requests", "urllib.request"}

#: Folders that know one engine. All others speak to the interface in the folder above.
ENGINES = ["metadata/sqlite", "metadata/rethinkdb", "storage/directory", "storage/hdfs"]


def name_of(path: Path) -> str:
    """A module's name below the package: ``worker.controller``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if name_of(path)}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in PATHS.items()}


def folder_of(name: str) -> str:
    """The folder of a module, or its own name where it lies at the top."""
    folder = PATHS[name].parent.relative_to(ROOT).as_posix()
    return name if folder == "." else folder


def imports(tree: ast.AST) -> Iterator[str]:
    """Names that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports use absolute names"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(name: str) -> set[str]:
    """Which of the project's modules `name` imports."""
    found = set()
    for imported in imports(TREES[name]):
        first, _, rest = imported.partition(".")
        if first == "trough":
            found.add(rest if rest in TREES else rest.rpartition(".")[0])
    return found - {name, ""}


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def layer_of(folder: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if matches(folder, layer)]
    assert len(found) == 1, f"{folder} has to be in one layer, and is in {len(found)}"
    return found[0]


def test_a_folder_knows_only_those_above_it() -> None:
    """No module imports one from a folder of a lower layer."""
    wrong = [
        f"{name} imports {other}"
        for name in TREES
        for other in own_imports(name)
        if layer_of(folder_of(other)) > layer_of(folder_of(name))
    ]
    assert wrong == []


def test_the_lists_name_what_there_is() -> None:
    """No list here names a folder or a module that is gone."""
    folders = {folder_of(name) for name in TREES}
    patterns = [pattern for layer in LAYERS for pattern in layer] + ENGINES
    assert [each for each in patterns if not any(matches(one, [each]) for one in folders)] == []
    assert [each for each in PURE if not any(matches(name, [each]) for name in TREES)] == []


def test_nothing_imports_itself_by_way_of_others() -> None:
    """Imports form no circle, wherever in a module they are, and also where they are for types."""
    left = {name: own_imports(name) for name in TREES}
    while left:
        free = [name for name, needed in left.items() if not needed & set(left)]
        assert free, f"these import each other: {sorted(left)}"
        for name in free:
            del left[name]


def test_a_core_knows_no_framework_and_no_clock() -> None:
    """A module that is listed as pure imports nothing that does I/O or reads a clock."""
    wrong = [
        f"{name} imports {imported}"
        for name in TREES
        if matches(name, PURE)
        for imported in imports(TREES[name])
        if any(f"{imported}.".startswith(f"{each}.") for each in IMPURE)
    ]
    assert wrong == []


def test_only_an_engine_knows_an_engine() -> None:
    """Concrete stores are named below their interface's folder, and nowhere else."""
    wrong = [
        f"{name} imports {other}"
        for name in TREES
        for other in own_imports(name)
        if matches(folder_of(other), ENGINES)
        and folder_of(name).partition("/")[0] != folder_of(other).partition("/")[0]
    ]
    assert wrong == []


def test_a_folder_holds_more_than_one_file() -> None:
    """A folder with a single module is that module."""
    folders = {path.parent for path in ROOT.rglob("*.py")}
    assert [each.name for each in folders if len(list(each.glob("*.*"))) < 2] == []


#: Made for each request, where a keyword costs what it says.
MANY_POSITIONAL = {"ReadJob", "WriteJob", "SqlWrite"}


def test_constructors_name_what_they_are_given():
    """A constructor takes five arguments by position, and all others by keyword."""
    found = set()
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                constructors = [
                    each
                    for each in node.body
                    if isinstance(each, ast.FunctionDef) and each.name == "__init__"
                ]
                found |= {node.name for each in constructors if len(each.args.args) > 6}
    assert found == MANY_POSITIONAL


#: A public class's name has one meaning. These are several of one: a driver that blocks and one
#: for asyncio, the options of each plugin, and what a driver calls an error of ours.
SHARED_NAMES = {"Connection", "RowStream", "Servers", "Options", "OutcomeUnknown"}


def test_a_class_has_a_name_of_its_own():
    """Two public classes have two names."""
    places: dict[str, list[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    shared = {name: where for name, where in places.items() if len(where) > 1}
    assert shared.keys() == SHARED_NAMES, shared
