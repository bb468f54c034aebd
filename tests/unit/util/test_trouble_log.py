"""Troubles are reported once a minute and cause, and counted always."""

import re

from places import ROOT
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from trough import errors
from trough.util.trouble_log import INTERVAL, Section, TroubleLog
from trough.worker.refusals import COPIES, PROMOTIONS, WRITES, Refusals, section_of


def test_one_line_a_minute_and_cause():
    """The next line says how many there were; the line names the section of the guide."""
    clock = Clock()
    log = TroubleLog(clock)
    with capturedLogs() as events:
        for number in range(48):
            log.report(Section.PROMOTIONS, "promotions refused", f"reason {number}")
        log.report(Section.DISK_FULL, "promotions refused", "no room")
        clock.advance(INTERVAL)
        log.report(Section.PROMOTIONS, "promotions refused", "the last")
    assert [formatEvent(event) for event in events] == [
        "1 promotions refused: reason 0; see the guide, *Promotions fail*",
        "1 promotions refused: no room; see the guide, *A disk is full*",
        "48 promotions refused: the last; see the guide, *Promotions fail*",
    ]
    assert log.counts[Section.PROMOTIONS, "promotions refused"] == 49


def test_a_trouble_that_lasts_is_reminded_of():
    """Once a minute, and not beside another line of its section."""
    clock = Clock()
    log = TroubleLog(clock)
    with capturedLogs() as events:
        for _ in range(13):
            log.remind(Section.COLD_WORKERS, "2 cold segments have no living cold worker (w3)")
            clock.advance(INTERVAL / 6)
        log.report(Section.DISK_FULL, "copies put off", "no room")
        log.remind(Section.DISK_FULL, "1 copy cannot be made here: no room")
    line = "2 cold segments have no living cold worker (w3); see the guide, *No cold worker lives*"
    last = "1 copies put off: no room; see the guide, *A disk is full*"
    assert [formatEvent(event) for event in events] == [*[line] * 3, last]


def test_what_a_client_can_mend_is_not_reported():
    """Everything else is, whatever it is, and a full disk is counted for the status."""
    refusals = Refusals(TroubleLog(Clock()))
    with capturedLogs() as events:
        for mended in (None, errors.BadSql("x"), errors.NoWriteLock("x"), errors.Cancelled("x")):
            refusals.note(WRITES, mended)
        assert events == []
        for reason in (errors.Unavailable("x"), errors.OutcomeUnknown("x"), errors.DiskFull("x")):
            refusals.note(WRITES, reason)
        refusals.note(PROMOTIONS, errors.Conflict("x"))
        refusals.note(PROMOTIONS, errors.Fenced("x"))
        refusals.note(COPIES, errors.UnusableFile("x"))
    assert [event["section"] for event in events] == [
        "Writes are refused",
        "A disk is full",
        "Promotions fail",
        "HDFS is away",
    ]
    assert refusals.status() == {"refused_writes": 1, "refused_promotions": 0}
    assert section_of(COPIES, errors.CorruptSegment("x")) is Section.DAMAGED
    assert section_of(WRITES, errors.UnderReplicated("x")) is Section.UNDER_REPLICATED


def test_the_guide_has_each_section():
    """As a title, or a term that is explained."""
    guide = (ROOT / "docs" / "operations.rst").read_text()
    titles = re.findall(r"^([^\s].*)\n(?:    \S|[-=~]{4,}$)", guide, re.MULTILINE)
    missing = [
        section.value
        for section in Section
        if not any(title.startswith(section.value) for title in titles)
    ]
    assert missing == []


def test_each_section_but_those_of_status_alone_has_a_line_in_the_log():
    """Status asks the store for its leader and its tables, and counts files; nothing is refused
    because of these files."""
    forms = (
        r"(?:report|remind)\(\s*Section\.(\w+)",
        r"section=Section\.(\w+)",
        r"(?:return|section =|else|WRITES:|PROMOTIONS:|COPIES:) Section\.(\w+)",
        r"\(Section\.(\w+), (?:self|planner)",
    )
    sources = [
        path.read_text()
        for path in (ROOT / "trough").rglob("*.py")
        if "admin" not in path.relative_to(ROOT).parts
    ]
    logged = {name for text in sources for form in forms for name in re.findall(form, text)}
    assert {each.name for each in Section} - logged == {"LEADER", "QUARANTINE", "REPLICAS"}


def test_troubles_are_named_by_the_sections_of_the_guide():
    """No code names a section by hand, which could be another one tomorrow."""
    by_hand = [
        f"{path}: {found}"
        for path in sorted((ROOT / "trough").rglob("*.py"))
        for found in re.findall(r"\(see [A-Z][a-z' ]+\)|see the guide, \*[A-Z]", path.read_text())
    ]
    assert by_hand == []
