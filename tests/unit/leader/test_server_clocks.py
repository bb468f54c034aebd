"""Clocks of the metadata store's servers that do not agree."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from trough.leader.server_clocks import INTERVAL, ServerClocks, spread_of, warning_of


class Servers:
    """Servers whose clocks a test sets."""

    def __init__(self, **offsets):
        self.offsets = offsets
        self.asked = 0

    async def clock_offsets(self):
        self.asked += 1
        return self.offsets


def slack_of(clocks):
    """What the leader allows now."""
    found = []
    Deferred.fromCoroutine(clocks.slack()).addCallback(found.append)
    return found[0]


def test_what_clocks_differ_by_is_allowed():
    """From one second on; they are compared once a minute."""
    servers, clock = Servers(a=0.0, b=0.4, c=-0.5), Clock()
    clocks = ServerClocks(servers, clock)
    assert slack_of(clocks) == 0.0
    servers.offsets = {"a": 0.0, "b": 20.0, "c": -0.5}
    assert slack_of(clocks) == 0.0 and servers.asked == 1
    clock.advance(INTERVAL)
    assert slack_of(clocks) == 20.5 and clocks.spread == 20.5


def test_the_wrong_clock_is_named():
    """With its offset, and what to do."""
    text = warning_of({"db1:28015": 0.0, "db2:28015": 20.04, "db3:28015": -0.1})
    assert "differ by 20.1 s: db2:28015 is 20.0 s ahead;" in text and "NTP" in text
    assert spread_of({}) == 0.0
