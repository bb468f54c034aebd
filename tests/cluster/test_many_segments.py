"""A worker that holds more segments than a stack is deep."""

import shutil
import sqlite3

from processes import Machine, until_blocking

from trough.model import canonical_path

COUNT = 600


def test_a_worker_with_many_segments_restarts_without_a_trace(tmp_path):
    """Looking at hundreds of segments with which all is well is not one deep recursion."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        template = tmp_path / "template"
        with sqlite3.connect(template) as database:
            database.execute("CREATE TABLE t (n)")
        database.close()
        for number in range(COUNT):
            path = machine.canonical / canonical_path(f"{300_000 + number}")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(template, path)
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        until_blocking(lambda: machine.status("w1")["segments"] == COUNT, "all segments")
        machine.processes["w1"].kill()

        worker = machine.worker("w1").wait_ready()
        until_blocking(
            lambda: machine.status("w1")["reconciler"]["assigned"] == COUNT, "all assignments"
        )
        status = until_blocking(_idle(machine), "the end of all looks")
        assert status["segments"] == COUNT
        assert "Traceback" not in worker.output and "recursion" not in worker.output


def _idle(machine):
    def look():
        status = machine.status("w1")
        work = status["reconciler"]
        return status if not (work["queued"] or work["active"]) else None

    return look
