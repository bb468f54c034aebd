"""What a short query of trough-shell imports, which is most of the time that it takes."""

import subprocess
import sys

#: What a query of segments by name needs none of, and takes long to import.
NOT_NEEDED = {
    "sqlglot",
    "yaml",
    "certifi",
    "hmac",
    "prompt_toolkit",
    "pygments",
    "pysqlite3",
    "rethinkdb",
    "trough.settings",
    "trough.executors.pool.task_pool",
    "twisted.internet",
}
QUERY = """
import sys
import trough.shell.entry, trough.shell.main, trough.shell.cluster.direct
print(*sys.modules)
"""


def test_a_short_query_imports_no_more_than_it_needs():
    """The reactor, the parser of SQL, settings and the editor are imported when they are used."""
    found = subprocess.run([sys.executable, "-c", QUERY], capture_output=True, check=True)
    modules = set(found.stdout.decode().split())
    assert "trough.protocols.line.blocking" in modules
    assert modules & NOT_NEEDED == set()


def test_the_process_ends_with_the_status_of_the_shell(tmp_path):
    """Also what it wrote last has arrived, though the interpreter is not taken apart."""
    run = "from trough.shell.entry import run; run()"
    asked = [sys.executable, "-c", run, "-u", f"sqlite://{tmp_path}/registry.db", "-e", "SELECT 1;"]
    found = subprocess.run(asked, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert found.returncode == 3 and b"there is no registry" in found.stderr
