"""Which of a worker's segments match a pattern, whatever the pattern does to its matcher.

A regular expression can keep Python's matcher busy for longer than the universe lasts,
and the matcher lets no other thread run meanwhile. Patterns that cannot do so are matched
at once; the others in a process of their own, which the system ends at its limit of
processor time. Blocking.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Collection

from trough import errors
from trough.metadata import conditions
from trough.util import child_process

#: Seconds of processor time for one pattern.
LIMIT_SECONDS = 10

# No group, no alternative, at most one repetition: at worst quadratic in the length of an
# id, which is 64.
_HARMLESS = re.compile(r"[^(){}|*+?\\]*(?:[*+?][^(){}|*+?\\]*)?")


def is_harmless(pattern: str) -> bool:
    """Whether matching takes no time worth speaking of."""
    return _HARMLESS.fullmatch(pattern) is not None


def matching(pattern: str, names: Collection[str]) -> list[str]:
    """Those of `names` in which `pattern` is found, in their order.

    :raises trough.errors.BadRequest: it is no regular expression
    :raises trough.errors.DeadlineExceeded: it took too long
    :raises trough.errors.Unavailable: no process can be started for it
    """
    found = conditions.matcher(pattern)
    if is_harmless(pattern):
        return [name for name in names if found(name)]
    with child_process.started():
        process = subprocess.run(
            child_process.command("trough.worker.segment_patterns", LIMIT_SECONDS),
            input=json.dumps([pattern, list(names)]).encode(),
            capture_output=True,
            env=child_process.environment(),
        )
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise errors.DeadlineExceeded(
            f"matching {pattern!r:.80} took more than {LIMIT_SECONDS} s", "simplify the pattern"
        )
    if process.returncode:
        raise errors.Unavailable(f"matching failed with status {process.returncode}")
    matched: list[str] = json.loads(process.stdout)
    return matched


def _child() -> None:
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    pattern, names = json.load(sys.stdin)
    found = re.compile(pattern).search
    json.dump([name for name in names if found(name)], sys.stdout)


if __name__ == "__main__":
    _child()
