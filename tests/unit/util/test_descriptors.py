"""The limit on descriptors."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import resource
from trough.util.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_is_raised_to_the_hard_one():
    """In a process of its own: a limit that was lowered stays so."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout == "(300, 300)\n", done.stderr
