"""The layers of the project: a module knows those above it, and none below.

Whoever adds a module adds it to :data:`LAYERS`, which is the place to think about where
it belongs. Imports are read from the source, those for type checking included.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "trough"

#: From the top down; modules of one layer may know each other. A star stands for any
#: further letters.
LAYERS = [
    ["errors"],
    [
        "bunch",
        "clocks",
        "json_lines",
        "keyed_lock",
        "lifecycle",
        "logs",
        "own_process",
        "patience",
        "periodic",
        "ready",
        "threads",
        "transactions",
    ],
    ["model"],
    ["settings", "settings.*"],
    ["files", "data_directory"],
    ["ring"],
    ["placement", "placement.*"],
    # The line protocol without I/O.
    [
        "protocols",
        "protocols.line",
        "protocols.messages",
        "protocols.values",
        "protocols.arguments",
        "protocols.outbox",
    ],
    # SQL: text and rules, then SQLite.
    ["sql", "sql.functions", "sql.sandbox", "sql.text", "sql.library", "sql.statements"],
    [
        "sql.handles",
        "sql.queries",
        "sql.reading",
        "sql.row_sources",
        "sql.rows",
        "sql.segment_files",
        "sql.sqlite",
        "sql.writing",
    ],
    # The executors, and the front's side of them.
    [
        "executors",
        "executors.channel",
        "executors.executor",
        "executors.parts",
        "executors.frames",
        "executors.shared_table",
    ],
    [
        "executors.failures",
        "executors.front_socket",
        "executors.jobs",
        "executors.pool",
        "executors.process",
        "executors.read_jobs",
        "executors.read_routing",
        "executors.supervision",
        "executors.write_routing",
    ],
    ["metadata", "metadata.*"],
    ["storage", "storage.*"],
    # Worker.
    ["schemas", "matching"],
    ["attention"],
    [
        "aside",
        "catalogue",
        "cold",
        "local_copies",
        "local_files",
        "promotion",
        "provisioning",
        "publisher",
        "reconciler",
        "segments",
        "threaded_catalogue",
        "worker",
        "writer",
        "writes",
    ],
    ["query", "reach"],
    # Sync server.
    ["long_look", "leadership", "overview", "peers", "sync"],
    ["gather", "gather.*"],
    # Clients.
    [
        "protocols.blocking",
        "protocols.calls",
        "protocols.client",
        "protocols.http_client",
        "protocols.row_lines",
    ],
    ["cluster", "cluster.*"],
    ["client", "http_answers", "leader_requests", "promoter"],
    # Servers.
    [
        "protocols.common",
        "protocols.dispatch",
        "protocols.gatherer",
        "protocols.server",
        "protocols.turns",
        "protocols.verbs",
        "protocols.sync_verbs",
        "protocols.worker_verbs",
    ],
    [
        "protocols.http",
        "protocols.http_gather",
        "protocols.http_json",
        "protocols.http_manager",
        "protocols.http_proxy",
        "protocols.http_query",
    ],
    # What people start.
    ["registry_url"],
    ["admin", "admin.*", "load", "loading", "loading.*", "shell", "shell.*"],
    ["example", "service"],
    ["taps", "taps.*"],
]

#: Cores: functions of values, without a clock, a socket, a thread or a framework.
PURE = ["errors", "model", "settings*", "ring", "placement*", "metadata.rules"]
PURE += ["storage.listing", "storage.paths"]
PURE += ["protocols.line", "protocols.messages", "protocols.values"]
IMPURE = {"twisted", "time", "socket", "select", "selectors", "threading", "subprocess"}
IMPURE |= {"asyncio", "random", "multiprocessing", "requests", "urllib.request"}

#: Modules that know one engine. Everybody else speaks to the interface.
ENGINES = ["metadata.embedded*", "metadata.rethink*", "storage.directory*", "storage.hdfs*"]
ENGINES += ["storage.webhdfs"]


def source_of_all_modules() -> dict[str, ast.Module]:
    """The syntax tree of every module, by its name below the package."""
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


MODULES = source_of_all_modules()


def imports(tree: ast.AST, at_load: bool = False) -> Iterator[str]:
    """Names of the modules that a module imports, wherever in it or when it is loaded."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports say whole names"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif not (at_load and _is_later(node)):
            yield from imports(node, at_load)


def _is_later(node: ast.AST) -> bool:
    """Whether this is not run when a module is loaded."""
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def own_imports(name: str, at_load: bool = False) -> set[str]:
    """Which of the project's modules `name` imports."""
    found = set()
    for imported in imports(MODULES[name], at_load):
        first, _, rest = imported.partition(".")
        if first == PACKAGE:
            found.add(rest if rest in MODULES else rest.rpartition(".")[0])
    return found - {name, ""}


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def layer_of(name: str) -> int:
    found = [number for number, layer in enumerate(LAYERS) if matches(name, layer)]
    assert len(found) == 1, f"{name} has to be in one of the layers, and is in {len(found)}"
    return found[0]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_knows_only_those_above_it(name: str) -> None:
    """Each module is in one layer, and imports nothing from a lower one."""
    below = {each for each in own_imports(name) if layer_of(each) > layer_of(name)}
    assert not below, f"{name} imports {sorted(below)}, which are below it"


def test_the_layers_name_what_there_is() -> None:
    """No layer speaks of a module that is gone."""
    patterns = [pattern for layer in LAYERS for pattern in layer]
    patterns += PURE + ENGINES
    assert [each for each in patterns if not any(matches(name, [each]) for name in MODULES)] == []


def test_nothing_imports_itself_by_way_of_others() -> None:
    """Imports that happen when a module is loaded form no circle."""
    left = {name: own_imports(name, at_load=True) for name in MODULES}
    while left:
        free = [name for name, needed in left.items() if not needed & set(left)]
        assert free, f"these import each other: {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("name", [name for name in MODULES if matches(name, PURE)])
def test_a_core_knows_no_framework_and_no_clock(name: str) -> None:
    """What is a function of values stays one."""
    found = {
        imported
        for imported in imports(MODULES[name])
        if any(f"{imported}.".startswith(f"{each}.") for each in IMPURE)
    }
    assert not found


@pytest.mark.parametrize("name", MODULES)
def test_only_an_engine_knows_an_engine(name: str) -> None:
    """Concrete stores are named inside their own packages, and nowhere else."""
    inside = name.partition(".")[0]
    found = {
        each
        for each in own_imports(name)
        if matches(each, ENGINES) and each.partition(".")[0] != inside
    }
    assert not found
