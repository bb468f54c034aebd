"""A full disk is reported once a minute, and counted always."""

from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from trough import errors
from trough.worker.disk_report import INTERVAL, DiskReport


def test_a_full_disk_has_one_line_a_minute_and_cause():
    """The next line says how many there were; what has another reason is no full disk."""
    clock = Clock()
    report = DiskReport(clock)
    full = errors.DiskFull("no room for x")
    with capturedLogs() as events:
        for _ in range(159):
            report.refused("writes", full)
        report.refused("promotions", full)
        report.refused("writes", errors.BadSql("x"))
        report.refused("writes", None)
        clock.advance(INTERVAL)
        report.refused("writes", full)
    lines = [(event["what"], event["number"]) for event in events]
    assert lines == [("writes", 1), ("promotions", 1), ("writes", 159)]
    assert report.status() == {"refused_writes": 160, "refused_promotions": 1}
