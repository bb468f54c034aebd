"""No stale answer of GATHER on real processes: segments are written, promoted, moved, deleted and
created again between equal questions, and workers and executors are killed."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from cluster_engines import PAIRS, open_engines
from processes import QUICK, Machine, http, until_blocking, write

NAMES = [f"k{number}" for number in range(5)]
TABLE = "CREATE TABLE t (n INTEGER)"
SQL = "SELECT n, count(*) FROM t GROUP BY n ORDER BY n"

#: Seconds after a change of the writer in which a worker may not know of it (docs/design.rst), and
#: as many for processes that wait for a processor.
PROMISED = 2 * (float(QUICK["HEARTBEAT_INTERVAL"]) + 1.0)


class Kept:
    """Segments on real workers, and what they hold."""

    def __init__(self, machine) -> None:
        self.machine = machine
        self.values = {}
        self.changed = time.monotonic()

    def write(self, name, value):
        """Write one more value, wherever the segment is writable."""
        url = self.machine.provision("s1", name)["write_url"]
        self.changed = time.monotonic()
        if name not in self.values:
            write(url, TABLE)
            self.values[name] = []
        write(url, f"INSERT INTO t VALUES ({value})")
        self.values[name].append(value)

    def delete(self, name):
        """Delete a segment, which nobody writes any more."""
        url = self.machine.url("s1", "SYNC_SERVER_PORT") + f"segment/{name}"
        until_blocking(lambda: http("DELETE", url)[0] == 204, f"{name} to be deleted")
        del self.values[name]

    def is_written_nowhere(self):
        """Whether no worker holds a write lock."""
        return not any(self.machine.status(name)["writable"] for name in ("w1", "w2"))

    def gathered(self):
        """The answer, or None while there is none."""
        url = self.machine.url("s1", "SYNC_SERVER_PORT") + "gather"
        body = json.dumps({"sql": SQL, "segments": sorted(self.values)}).encode()
        status, answer = http("POST", url, body)
        return json.loads(answer) if status == 200 else None

    def check(self):
        """Two answers, the second of which may be given again, are right. A worker that takes
        part in no other way may say that it cannot confirm its copies, and then it marks them."""
        values = [value for each in self.values.values() for value in each]
        expected = [[value, values.count(value)] for value in sorted(set(values))]
        right = {"columns": ["n", "count(*)"], "rows": expected, "missing": {}}

        def found():
            asked = time.monotonic()
            answer = self.gathered()
            if answer is None or answer == right or "stale" in answer:
                return answer
            # A worker may not know for a moment that a write lock has changed hands.
            assert asked - self.changed < PROMISED, answer
            return None

        for _ in range(2):
            until_blocking(found, "an answer")


@pytest.mark.parametrize("pair", PAIRS[:2])
def test_no_stale_answer_after_any_change(tmp_path, request, pair):
    """Each unmarked answer has every write that was acknowledged before the question."""
    engines = open_engines(pair, tmp_path, request)
    settings = {"MINIMUM_ASSIGNMENTS": "1", "MOVE_GRACE": "0.5", "WRITE_LOCK_IDLE": "1"}
    with Machine(tmp_path, engines.metadata_url, engines.storage_url, **settings) as machine:
        for process in (machine.sync("s1"), machine.worker("w1"), machine.worker("w2")):
            process.wait_ready()
        kept = Kept(machine)
        for number, name in enumerate(NAMES):
            kept.write(name, number)
        kept.check()
        for name in NAMES:
            machine.promote("s1", name)
        kept.check()
        kept.write("k1", 7)
        kept.check()
        for each in machine.status("w1")["executors"]["executors"]:
            if each["pid"] and each["name"].startswith("read"):
                os.kill(each["pid"], signal.SIGKILL)
        kept.check()
        machine.promote("s1", "k1")
        until_blocking(kept.is_written_nowhere, "all locks to be given back")
        machine.processes["w1"].kill()
        kept.check()
        kept.write("k2", 8)
        kept.check()
        machine.worker("w1").wait_ready()
        kept.check()
        kept.write("k3", 9)
        kept.check()
        machine.promote("s1", "k2")
        machine.promote("s1", "k3")
        kept.delete("k4")
        kept.check()
        kept.write("k4", 10)
        kept.check()
