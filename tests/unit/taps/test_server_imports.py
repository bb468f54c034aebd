"""What the process of a server imports: it is on every machine, for ever."""

import subprocess
import sys

import pytest

IMPORTED = """
import sys
import {}
print(*sys.modules)
"""


@pytest.mark.parametrize(
    ("module", "needs_parser"),
    [("trough.service", False), ("trough.gather.fork_server", True)],
)
def test_only_the_processes_of_gathers_have_the_parser_of_sql(module, needs_parser):
    """It takes 9 MB. The fork server has all of it, so that no process imports it again."""
    command = [sys.executable, "-c", IMPORTED.format(module)]
    found = subprocess.run(command, capture_output=True, check=True)
    modules = set(found.stdout.decode().split())
    assert ("sqlglot" in modules) is needs_parser
    assert ("trough.gather.session" in modules) is needs_parser
