"""The log as lines of JSON: what every event becomes, and what a process writes."""

import io
import json
import math

from processes import Machine
from twisted.logger import FileLogObserver, Logger, LogPublisher
from twisted.logger import LegacyLogObserverWrapper as Former

from trough import errors
from trough.util.log_json import json_line


def logged(say) -> list[dict]:
    """The lines of what `say` logs."""
    file = io.StringIO()
    publisher = LogPublisher(Former(lambda event: None), FileLogObserver(file, json_line))
    say(Logger("trough.somewhere", observer=publisher))
    return [json.loads(line) for line in file.getvalue().splitlines()]


def test_an_event_is_one_flat_object():
    """Its sentence, and each of its fields under its name."""
    [line] = logged(
        lambda log: log.warn(
            "{node}: {segment} took {ms} ms: {reason}",
            node="w1",
            segment="300001",
            ms=1.5,
            reason=errors.Unavailable("gone", "wait"),
        )
    )
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "warn",
        "system": "trough.somewhere",
        "message": "w1: 300001 took 1.5 ms: gone (wait)",
        "node": "w1",
        "segment": "300001",
        "ms": 1.5,
        "reason": "gone (wait)",
    }


def test_whatever_is_logged_gives_a_line():
    """Control characters, half of a surrogate pair, numbers that JSON lacks, and an object
    that cannot even be shown."""

    class Broken:
        def __str__(self):
            raise ValueError("no")

        __repr__ = __str__

    [line] = logged(
        lambda log: log.info(
            "a\nb\x1b\ud800", number=math.nan, big=2**80, broken=Broken(), none=None, pair=(1, 2)
        )
    )
    assert line["message"] == "a\nb\x1b\ud800"
    assert (line["number"], line["big"], line["none"]) == ("nan", 2**80, None)
    assert "Broken" in line["broken"]
    assert line["pair"] == "(1, 2)"


def test_no_field_takes_the_place_of_one_that_is_always_there():
    """A program could not rely on them otherwise."""
    [line] = logged(lambda log: log.info("said", message="no", system="no", time="no"))
    assert (line["message"], line["system"]) == ("said", "trough.somewhere")
    assert line["time"] != "no"


def test_a_failure_brings_its_trace():
    """In the same line."""

    def fail(log):
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError:
            log.failure("{what} failed", what="dividing")

    [line] = logged(fail)
    assert (line["level"], line["message"]) == ("critical", "dividing failed")
    assert "ZeroDivisionError: by zero" in line["traceback"]
    assert line["what"] == "dividing"


def test_nothing_said_is_no_line():
    """As in the log for people."""
    assert logged(lambda log: log.info("")) == []


def test_a_process_writes_nothing_else(tmp_path):
    """From its first line to its last, that it is ready included; one that must not run says
    why in the same way."""
    with Machine(tmp_path, LOG_FORMAT="json", MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        first = machine.worker("w1").wait_ready()
        refused = machine.worker("w2", HOSTNAME="w1", LOCAL_DATA=str(tmp_path / "other"))
        assert refused.wait() == 1
        machine.provision("s1", "300001")
        for process in (machine.processes["s1"], first):
            process.stop()
        for process in (machine.processes["s1"], first, refused):
            process.wait_for("(end of output)")
            lines = [json.loads(line) for line in process.lines[:-1]]
            assert all({"time", "level", "system", "message"} <= line.keys() for line in lines)
            [told] = [line for line in lines if line["system"] == "trough.service"]
            assert told["role"] in ("sync server", "worker") and told["node"] in ("s1", "w1")
        assert any("refusing to run" in line["message"] for line in lines)
